"""The linear layers of a model, laid out for the processor's own matrix kernels."""

import torch
from torch import nn

from arith.operands import blocked_linear
from arith.operands.adapters import untuned_modules
from arith.operands.blocked_linear import BlockedLinear
from arith.operands.half_linear import HalfLinear, fits, saves
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
    weight = linear.weight
    return packed_kind(weight.shape, weight.dtype, half=half and fits(weight))(linear)


def packed_kind(shape: torch.Size, dtype: torch.dtype, *, half: bool) -> type[Packed]:
    """The kind of layer that takes the place of one with weights `[out, in]` of that dtype."""
    outputs, inputs = shape
    if half and dtype == torch.float32 and saves(outputs, inputs):
        return HalfLinear
    if blocked_linear.computes(dtype) and blocked_linear.pays(outputs, inputs):
        return BlockedLinear
    return PackedLinear


def packable(layer: nn.Module) -> bool:
    """Whether it is a linear layer for which there are such kernels, and whose weights stay in place."""
    if type(layer) is not nn.Linear or hasattr(layer, "_hf_hook"):
        return False
    return packs(layer.weight.device, layer.weight.dtype)
