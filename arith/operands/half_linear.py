"""Linear layers whose weights are float16 while states, products and sums stay float32, by kernels (FBGEMM's)
that widen the weights as they read them. A step of few rows is bound by that reading."""

import itertools
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

_KERNEL: Any = torch.ops.quantized.linear_dynamic_fp16.default
_ENGINES = ("fbgemm", "x86")  # torch's names for the kernels of x86 processors


class _Packed(torch.jit.RecursiveScriptClass):  # type: ignore[misc, name-defined]
    """What the kernels keep their weights in. torch looks for this attribute in every argument of a call, and
    not to find it in a bare script object takes as long as a small kernel."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class HalfLinear(nn.Module):
    """Takes the place of a float32 linear layer on the CPU, for inference alone. Its weights, which float16
    `fits`, are rounded to 11 significant bits."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = None if linear.bias is None else linear.bias.detach()
        self.packed = _Packed(torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), bias))
        self.biased = bias is not None
        self.number = next(_numbers)
        _layers[self.number] = self

    @property
    def weight(self) -> Tensor:
        """The weights `[out, in]` in float32: a copy, for code that looks at them."""
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self.packed)[0]
        return weight

    @property
    def nbytes(self) -> int:
        """The memory of the weights and the bias, in bytes."""
        return self.out_features * (2 * self.in_features + (4 if self.biased else 0))

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`, both float32."""
        if torch.compiler.is_compiling():
            hidden: Tensor = torch.ops.arith.half_linear(states, self.number, self.out_features)
            return hidden
        if states.dim() > 1:
            return cast(Tensor, _KERNEL(states, self.packed))
        return cast(Tensor, _KERNEL(states[None], self.packed))[0]


def fits(weight: Tensor) -> bool:
    """Whether float16 has room for the largest of these weights, and for steps of 2^-11 of it: then rounding
    moves none of them by more than that."""
    largest = float(torch.linalg.vector_norm(weight.detach(), torch.inf)) if weight.numel() else 0.0
    half = torch.finfo(torch.float16)
    return largest == 0 or half.tiny <= largest <= half.max


def computes(device: torch.device) -> bool:
    """Whether there are such kernels."""
    return device.type == "cpu" and torch.backends.quantized.engine in _ENGINES


# torch.compile can't hold what the kernels keep their weights in: it is given the layer's number.
_numbers = itertools.count()
_layers: WeakValueDictionary[int, HalfLinear] = WeakValueDictionary()
_LIBRARY: Any = cast(Any, torch.library).Library("arith", "FRAGMENT")
_LIBRARY.define("half_linear(Tensor states, int number, int outputs) -> Tensor")


def _multiply(states: Tensor, number: int, _outputs: int) -> Tensor:
    product: Tensor = _layers[number](states)
    return product


def _shape_of_product(states: Tensor, _number: int, outputs: int) -> Tensor:
    return states.new_empty(*states.shape[:-1], outputs)


_LIBRARY.impl("half_linear", _multiply, "CPU")
torch.library.register_fake("arith::half_linear", _shape_of_product, lib=_LIBRARY)
