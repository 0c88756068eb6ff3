"""RMS normalisation in fewer and cheaper calls than the models' classes make.

At few lanes the calls between the matrix products cost a third of a step.
"""

from functools import partial

import torch
from torch import Tensor, nn

from arith.operands.adapters import untuned_modules
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.own_forward import gives_the_same

_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_SCALES = (1.0, 1e-3)  # of the states of a trial: to small ones the epsilon matters
_MEAN = 0.5  # of these states before that: a norm that takes it away is another one


class QuickRMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + epsilon) * weight` (RMSNorm: Zhang and Sennrich 2019), computed in float32 at
    least and rounded once: in float32 bit for bit what the models' own code gives.

    Seven cheap operations, most of them in place; torch's own layer makes ten of it on a CPU, and has one
    kernel for it on CUDA.
    """

    def __init__(self, weight: Tensor, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.dtype = torch.promote_types(weight.dtype, torch.float32)
        self.scale = weight.detach()  # the same numbers, found without a look-up of parameters
        # As tensors: numbers are made into some, and converted, in every call.
        self.epsilon = torch.tensor(epsilon, dtype=self.dtype)
        self.width = torch.tensor(len(weight), dtype=self.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """`[..., n]` to `[..., n]`."""
        wide = states if states.dtype is self.dtype else states.to(self.dtype)
        square = torch.mul(wide, wide).sum(-1, keepdim=True).div_(self.width)
        root = square.add_(self.epsilon).rsqrt_()
        normed = torch.mul(wide, root).mul_(self.scale)
        return normed if wide is states else normed.to(states.dtype)


def use_quick_norms(model: nn.Module) -> None:
    """Put a quicker layer in the place of every RMS norm that gives the same, and has one weight for each
    feature and no more: `QuickRMSNorm` on a CPU, elsewhere torch's."""
    for place, norm in untuned_modules(model).items():
        quick = _as_quick_norm(norm)
        if quick is not None:
            parent, _, name = place.rpartition(".")
            setattr(model.get_submodule(parent), name, quick)


def _as_quick_norm(norm: nn.Module) -> nn.Module | None:
    """A quicker layer with the norm's own weight, None where it is no such norm."""
    # By its name first: the weights of packed layers are copied when they are looked at.
    if not type(norm).__name__.endswith("RMSNorm") or type(norm) is nn.RMSNorm or hasattr(norm, "_hf_hook"):
        return None
    weight = getattr(norm, "weight", None)
    epsilon = next((value for name in _EPSILONS if (value := getattr(norm, name, None)) is not None), None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(epsilon, float):
        return None
    if _takes_any_width(norm, weight):
        return None
    quick = QuickRMSNorm(weight, epsilon) if weight.device.type == "cpu" else _torch_norm(weight, epsilon)
    drawn = torch.randn(len(_SCALES), 1, len(weight), generator=torch.Generator().manual_seed(0))
    states = ((drawn + _MEAN) * torch.tensor(_SCALES)[:, None, None]).to(weight)
    with torch.inference_mode():
        return quick if gives_the_same(partial(quick, states), partial(norm, states)) else None


def _torch_norm(weight: Tensor, epsilon: float) -> nn.RMSNorm:
    layer = nn.RMSNorm(len(weight), eps=epsilon, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def _takes_any_width(norm: nn.Module, weight: Tensor) -> bool:
    """Whether a norm has a weight which it doesn't use."""
    try:
        with torch.inference_mode():
            norm(weight.new_ones(1, len(weight) + 1))
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return False
    return True
