"""Linear layers whose weights are float16 while states, products and sums stay float32, by kernels (FBGEMM's)
that widen the weights as they read them. A step of few rows is bound by that reading."""

import functools
import itertools
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from arith.operands.packed_weight import PackedWeight

# What is behind the overload, which looks for a tracer's arguments in Python, five microseconds a call.
_KERNEL: Any = torch.ops.quantized.linear_dynamic_fp16.default._op
_ENGINES = ("fbgemm", "x86")  # torch's names for the kernels of x86 processors
_BLOCK = (16, 512)  # outputs and inputs that the kernels lay out together, filled up with zeros


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
        self.bias = linear.bias
        bias = None if linear.bias is None else linear.bias.detach()
        self.packed = _Packed(torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), bias))
        self.number = next(_numbers)
        _layers[self.number] = self

    @property
    def weight(self) -> Tensor:
        """The weights `[out, in]` in float32, for code that looks at them (see `PackedWeight`)."""
        return PackedWeight(self._unpacked, (self.out_features, self.in_features), torch.float32)

    @property
    def nbytes(self) -> int:
        """The memory of the weights, in bytes."""
        return self.bytes_for(self.out_features, self.in_features, torch.float32)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`, both float32."""
        if torch.compiler.is_compiling():
            hidden: Tensor = torch.ops.arith.half_linear(states, self.number, self.out_features)
            return hidden
        if states.dim() == 1:
            return self.forward(states[None])[0]
        product: Tensor = _KERNEL(states, self.packed)
        return product

    def _unpacked(self) -> Tensor:
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self.packed)[0]
        return weight

    @staticmethod
    def bytes_for(outputs: int, inputs: int, _dtype: torch.dtype) -> int:
        """The memory of weights `[out, in]`, in bytes."""
        blocks = [-(-size // block) * block for size, block in zip((outputs, inputs), _BLOCK, strict=True)]
        return 2 * blocks[0] * blocks[1]

    @staticmethod
    def filler(_outputs: int) -> int:
        """How many outputs that are 0 a layer had better have besides."""
        return 0


def saves(outputs: int, inputs: int) -> bool:
    """Whether that is less than float32 takes, as it is but for few inputs."""
    return HalfLinear.bytes_for(outputs, inputs, torch.float32) < 4 * outputs * inputs


def fits(weight: Tensor) -> bool:
    """Whether float16 has room for the largest of these weights, and for steps of 2^-11 of it: then rounding
    moves none of them by more than that."""
    largest = float(torch.linalg.vector_norm(weight.detach(), torch.inf)) if weight.numel() else 0.0
    half = torch.finfo(torch.float16)
    return largest == 0 or half.tiny <= largest <= half.max


def computes(device: torch.device) -> bool:
    """Whether there are such kernels."""
    return device.type == "cpu" and torch.backends.quantized.engine in _ENGINES and _works()


@functools.cache
def _works() -> bool:
    """Whether a small product is what it should be: builds of torch leave kernels out, or TorchScript."""
    ones = nn.Linear(2, 1, bias=False)
    nn.init.ones_(ones.weight)
    try:
        with torch.inference_mode():
            return bool(torch.equal(HalfLinear(ones)(torch.ones(1, 2)), torch.full((1, 1), 2.0)))
    except (RuntimeError, TypeError, AttributeError):
        return False


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
