"""Linear layers of float32 in blocks of a few outputs, multiplied as a batch of narrow matrices (MKL's
kernels). Each is read in the order in which it lies in memory, which is what few rows wait for."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from arith.operands.packed_weight import PackedWeight

BLOCK = 48 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 16
"""How many outputs a block has: as many as the processor's kernels keep in registers at once."""
_LARGEST = 2**23  # weights of a matrix, from which on the kernels for packed layers (oneDNN's) are as quick
_MANY = 1024  # rows, from which on it is quicker to put the matrix together again first


def _multiply(states: Tensor, blocks: Tensor, bias: Tensor | None, outputs: int) -> Tensor:
    rows = states.reshape(-1, states.shape[-1])
    if len(rows) >= _MANY:
        return nn.functional.linear(states, _matrix(blocks, outputs), bias)
    products = torch.bmm(rows.expand(len(blocks), -1, -1), blocks)
    product = products.transpose(0, 1).reshape(len(rows), len(blocks) * BLOCK)
    if product.shape[1] > outputs:
        product = product.narrow(1, 0, outputs).contiguous()
    if bias is not None:
        product += bias
    return product.view(*states.shape[:-1], outputs)


def _matrix(blocks: Tensor, outputs: int) -> Tensor:
    """The weights `[out, in]`."""
    return blocks.transpose(1, 2).flatten(0, 1)[:outputs]


def _shape_of_product(states: Tensor, _blocks: Tensor, _bias: Tensor | None, outputs: int) -> Tensor:
    return states.new_empty(*states.shape[:-1], outputs)


# One operation for torch.compile, which would write products of a single row out as sums.
_LIBRARY: Any = cast(Any, torch.library).Library("arith", "FRAGMENT")
_LIBRARY.define("blocked_linear(Tensor states, Tensor blocks, Tensor? bias, int outputs) -> Tensor")
_LIBRARY.impl("blocked_linear", _multiply, "CPU")
torch.library.register_fake("arith::blocked_linear", _shape_of_product, lib=_LIBRARY)


class BlockedLinear(nn.Module):
    """Takes the place of a float32 linear layer on the CPU, for inference alone. Same numbers, but for
    rounding."""

    blocks: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        weight = linear.weight.detach()
        whole, rest = divmod(self.out_features, BLOCK)
        # [blocks, in, BLOCK], the last one filled up with zeros
        blocks = weight.new_zeros(whole + (rest > 0), self.in_features, BLOCK)
        blocks[:whole] = weight[: whole * BLOCK].view(whole, BLOCK, self.in_features).transpose(1, 2)
        blocks[whole:, :, :rest] = weight[whole * BLOCK :].t()
        self.register_buffer("blocks", blocks)

    @property
    def weight(self) -> Tensor:
        """The weights `[out, in]`, for code that looks at them (see `PackedWeight`)."""
        shape = self.out_features, self.in_features
        return PackedWeight(lambda: _matrix(self.blocks, self.out_features), shape, self.blocks.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        if torch.compiler.is_compiling():
            hidden: Tensor = torch.ops.arith.blocked_linear(states, self.blocks, self.bias, self.out_features)
            return hidden
        return _multiply(states, self.blocks, self.bias, self.out_features)

    @staticmethod
    def bytes_for(outputs: int, inputs: int, _dtype: torch.dtype) -> int:
        """The memory of weights `[out, in]`, in bytes."""
        return (outputs + BlockedLinear.filler(outputs)) * inputs * 4

    @staticmethod
    def filler(outputs: int) -> int:
        """How many outputs that are 0 a layer had better have besides."""
        return -outputs % BLOCK


def computes(dtype: torch.dtype) -> bool:
    """Whether torch has such kernels."""
    mkl: Any = torch.backends.mkl
    return bool(dtype == torch.float32 and mkl.is_available())


def pays(outputs: int, inputs: int) -> bool:
    """Whether they are quicker than those for packed layers, whose calls take longer to begin. A single block
    can't be dealt out to threads, which would wait for each other all the same."""
    return outputs > BLOCK and outputs * inputs <= _LARGEST
