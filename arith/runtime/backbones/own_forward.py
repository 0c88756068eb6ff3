"""Another forward for modules of one model, where it gives what their own code does."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn

from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.rounding import same


def with_forward(kind: type[nn.Module], forward: Callable[..., Any]) -> type[nn.Module]:
    """A class like this one but for its forward. Modules of other models keep the class that they have."""
    made: Any = type(kind.__name__, (kind,), {"__module__": kind.__module__})
    made.forward = (
        forward  # afterwards: some classes put more around the forward that a subclass is made with
    )
    return made  # type: ignore[no-any-return]


def use_forwards(
    model: nn.Module,
    quick: Callable[[nn.Module], Any],
    forward: Callable[[type[nn.Module]], Callable[..., Any]],
) -> None:
    """Give each module for which `quick` makes something (else None) that as an attribute of this name, and a
    class with the `forward` made for its own."""
    classes: dict[type[nn.Module], type[nn.Module]] = {}
    for module in model.modules():
        found, kind = quick(module), type(module)
        if found is None:
            continue
        if kind not in classes:
            classes[kind] = with_forward(kind, forward(kind))
        vars(module)["quick"] = found
        module.__class__ = classes[kind]


def own_code(module: nn.Module, parameters: Collection[str], names: Collection[str]) -> bool:
    """Whether the forward of a module's class takes these parameters and looks at none but these names: what
    it does on a condition that no trial meets has a name too. One that hooks have replaced doesn't count."""
    forward = inspect.unwrap(type(module).forward)
    if "forward" in vars(module) or not set(parameters) <= set(inspect.signature(forward).parameters):
        return False
    return set(forward.__code__.co_names) <= set(names)


def gives_the_same(ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
    """Whether both can be called, and give tensors, or as many of them, that differ by rounding alone."""
    try:
        found, expected = _tensors(ours()), _tensors(theirs())
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return False
    return len(found) == len(expected) and all(map(same, found, expected))


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)
