"""Linear layers in the blocked layout of the processor's own kernels (oneDNN), which saves them from reading
each weight matrix as if it were new: two to seven times as fast for a few rows."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from arith.operands.packed_weight import PackedWeight

# The kernels are told a number of rows when they lay weights out; what is best for 16 is good for all.
_ROWS = 16
_BLOCK = 64  # outputs that the kernels compute together
# Looked up once: it is called hundreds of times a step.
_KERNEL: Any = torch.ops.mkldnn._linear_pointwise.default


def _multiply(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _KERNEL(states, packed, bias, "none", [], "")
    return product


def _shape_of_product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return states.new_empty(*states.shape[:-1], packed.shape[0])


# torch.compile knows the kernel only for weights that it has packed itself; this name for it hides that.
_LIBRARY: Any = cast(Any, torch.library).Library("arith", "FRAGMENT")
_LIBRARY.define("packed_linear(Tensor states, Tensor packed, Tensor? bias) -> Tensor")
for _key in ("CPU", "MkldnnCPU"):
    _LIBRARY.impl("packed_linear", _multiply, _key)
torch.library.register_fake("arith::packed_linear", _shape_of_product, lib=_LIBRARY)


class PackedLinear(nn.Module):
    """Takes the place of a linear layer on the CPU, for inference alone. Same numbers, but for rounding."""

    packed: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self.register_buffer("packed", torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS))
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The weights `[out, in]`, for code that looks at them (see `PackedWeight`)."""
        return PackedWeight(self.packed.to_dense, (self.out_features, self.in_features), self.packed.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        if torch.compiler.is_compiling():
            hidden: Tensor = torch.ops.arith.packed_linear(states, self.packed, self.bias)
            return hidden
        rows = states.numel() // self.in_features
        padding = round_rows(rows) - rows
        if not padding:
            return _multiply(states, self.packed, self.bias)
        flat = nn.functional.pad(states.reshape(rows, self.in_features), (0, 0, 0, padding))
        product = _multiply(flat, self.packed, self.bias)[:rows]
        return product.view(*states.shape[:-1], self.out_features)

    @staticmethod
    def bytes_for(outputs: int, inputs: int, dtype: torch.dtype) -> int:
        """The memory of weights `[out, in]` of that dtype, in bytes."""
        return outputs * inputs * dtype.itemsize

    @staticmethod
    def filler(outputs: int) -> int:
        """How many outputs that are 0 a layer had better have besides. Blocks of them that can't be dealt out
        evenly to the threads cost a quarter more for many rows; a sixteenth more blocks at most are worth
        it."""
        threads = torch.get_num_threads()
        blocks = -(-outputs // _BLOCK)
        even = -(-blocks // threads) * threads
        return even * _BLOCK - outputs if blocks < even <= blocks * 17 / 16 else 0


def round_rows(rows: int) -> int:
    """The next number with at most four significant bits.

    A kernel is made, and kept, for each number of rows that it meets: about a megabyte. Eight numbers from
    each power of two to the next keep these few, and padding to them costs a ninth at most.
    """
    step = 1 << max(0, (rows - 1).bit_length() - 4)
    return -(-rows // step) * step


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are such kernels."""
    mkldnn: Any = torch.backends.mkldnn
    if device.type != "cpu" or not mkldnn.is_available():
        return False
    bfloat16: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bfloat16)
