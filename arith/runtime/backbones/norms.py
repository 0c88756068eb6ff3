"""RMS normalisation by torch's own layer: one call, where the models' classes make seven.

At few lanes the calls between the matrix products cost a third of a step.
"""

import torch
from torch import Tensor, nn

from arith.operands.adapters import untuned_modules
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.rounding import same

_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_SCALES = (1.0, 1e-3)  # of the states of a trial: to small ones the epsilon matters
_MEAN = 0.5  # of these states before that: a norm that takes it away is another one


def use_torch_norms(model: nn.Module) -> None:
    """Put torch's layer in the place of every RMS norm that gives the same, and has one weight for each
    feature and no more."""
    for place, norm in untuned_modules(model).items():
        fused = _as_torch_norm(norm)
        if fused is not None:
            parent, _, name = place.rpartition(".")
            setattr(model.get_submodule(parent), name, fused)


def _as_torch_norm(norm: nn.Module) -> nn.RMSNorm | None:
    """torch's layer with the norm's own weight, None where it is no such norm."""
    # By its name first: the weights of packed layers are copied when they are looked at.
    if not type(norm).__name__.endswith("RMSNorm") or type(norm) is nn.RMSNorm or hasattr(norm, "_hf_hook"):
        return None
    weight = getattr(norm, "weight", None)
    epsilon = next((value for name in _EPSILONS if (value := getattr(norm, name, None)) is not None), None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(epsilon, float):
        return None
    fused = nn.RMSNorm(len(weight), eps=epsilon, device="meta")
    fused.weight = nn.Parameter(weight.detach(), requires_grad=False)
    drawn = torch.randn(len(_SCALES), 1, len(weight), generator=torch.Generator().manual_seed(0))
    states = ((drawn + _MEAN) * torch.tensor(_SCALES)[:, None, None]).to(weight)
    try:
        with torch.inference_mode():
            expected, found = norm(states), fused(states)
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return None
    return fused if same(found, expected) else None
