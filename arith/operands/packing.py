"""The linear layers of a model, laid out for the processor's own matrix kernels."""

import torch
from torch import nn

from arith.operands import blocked_linear, packed_linear
from arith.operands.adapters import untuned_modules
from arith.operands.blocked_linear import BlockedLinear, blocked_bytes
from arith.operands.half_linear import HalfLinear, fits, half_bytes, saves
from arith.operands.packed_linear import PackedLinear, packs

Packed = BlockedLinear | HalfLinear | PackedLinear
"""What takes the place of a linear layer."""


def pack_linears(model: nn.Module, *, half: bool = False) -> None:
    """Put a packed layer in the place of every linear layer for which the processor has such kernels.

    Layers of another kind, with hooks that move their weights, and those inside peft's layers stay as they
    are. A matrix that is tied to one elsewhere, as an output layer is to the embeddings, becomes a second
    one. `half` as in `packed`.
    """
    places = [place for place, one in untuned_modules(model).items() if packable(one)]
    # By their places alone, so that each layer's memory is free before the next is packed.
    for place in places:
        parent, _, name = place.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, packed(getattr(owner, name), half=half))


def packed(linear: nn.Linear, *, half: bool) -> Packed:
    """What takes the place of that layer. With `half` the weights of a float32 one become float16, where
    these have room for them and that saves memory."""
    wide = linear.weight.dtype == torch.float32 and saves(linear.out_features, linear.in_features)
    if half and wide and fits(linear.weight):
        return HalfLinear(linear)
    blocked = _blocked(linear.weight.shape, linear.weight.dtype)
    return BlockedLinear(linear) if blocked else PackedLinear(linear)


def packed_bytes(shape: torch.Size, dtype: torch.dtype, *, half: bool) -> int:
    """The bytes that weights `[out, in]` of that dtype take in a packed layer."""
    outputs, inputs = shape
    if half and saves(outputs, inputs):
        return half_bytes(outputs, inputs)
    if _blocked(shape, dtype):
        return blocked_bytes(outputs, inputs)
    return outputs * inputs * dtype.itemsize


def filler(shape: torch.Size, dtype: torch.dtype, *, half: bool) -> int:
    """How many outputs that are 0 a layer with weights `[out, in]` had better have besides."""
    if half:
        return 0
    outputs = shape[0]
    return -outputs % blocked_linear.BLOCK if _blocked(shape, dtype) else packed_linear.filler(outputs)


def packable(layer: nn.Module) -> bool:
    """Whether it is a linear layer for which there are such kernels, and whose weights stay in place."""
    if type(layer) is not nn.Linear or hasattr(layer, "_hf_hook"):
        return False
    return packs(layer.weight.device, layer.weight.dtype)


def _blocked(shape: torch.Size, dtype: torch.dtype) -> bool:
    return blocked_linear.computes(dtype) and blocked_linear.pays(*shape)
