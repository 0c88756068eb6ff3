"""Which modules of an architecture an adapter goes onto."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from arith.errors import OperandError
from grammar.errors import nearest

EVERY_LINEAR = "all-linear"  # peft's word for it; the output layer isn't one of them


def adapter_targets(model: nn.Module, targets: Sequence[str] | None) -> list[str] | str:
    """What peft is told. Raises `OperandError` for a name that fits no linear layer of the model: peft would
    pass over it wherever another name fits."""
    if targets is None:
        return EVERY_LINEAR
    modules = dict(model.named_modules())
    for target in targets:
        known = _adaptable(modules)
        if target.rpartition(".")[2] not in known or not any(
            name == target or name.endswith(f".{target}") for name in modules
        ):
            close = nearest(target, known)
            hint = f"did you mean `{close}`?" if close else f"its linear layers are {', '.join(known)}"
            model_type = getattr(getattr(model, "config", None), "model_type", "model")
            raise OperandError(f"adapter: the target `{target}` names no layer of this {model_type}", hint)
    return list(dict.fromkeys(targets))


def _adaptable(modules: dict[str, Any]) -> list[str]:
    """The last names of the layers with a matrix, in the order of the model."""
    found = (
        name.rpartition(".")[2]
        for name, module in modules.items()
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() == 2
    )
    return list(dict.fromkeys(found))
