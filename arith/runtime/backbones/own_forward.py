"""Another forward for modules of one model, where it gives what their own code does."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn

from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.rounding import same


def with_forward(kind: type[nn.Module], forward: Callable[..., Any]) -> type[nn.Module]:
    """A class like this one but for its forward. Modules of other models keep the class that they have."""
    made: type[nn.Module] = type(kind.__name__, (kind,), {"__module__": kind.__module__})
    # Afterwards: some classes put more around the forward that a subclass is made with.
    made.forward = forward
    return made


def use_forwards(
    model: nn.Module,
    quick: Callable[[nn.Module], Any],
    forward: Callable[[type[nn.Module]], Callable[..., Any]],
) -> None:
    """Give each module for which `quick` makes something (else None) that as an attribute of this name, and a
    class with the `forward` made for its own. Modules that hooks have given a forward are left as they are;
    hooks that come later see the module, and not the parts that it then calls by itself."""
    classes: dict[type[nn.Module], type[nn.Module]] = {}
    for module in model.modules():
        if "forward" in vars(module):
            continue
        found, kind = quick(module), type(module)
        if found is None:
            continue
        if kind not in classes:
            classes[kind] = with_forward(kind, forward(kind))
        vars(module)["quick"] = found
        module.__class__ = classes[kind]


def own_code(
    forward: Callable[..., Any],
    parameters: Collection[str],
    names: Collection[str],
    more: Collection[str] = (),
) -> bool:
    """Whether a forward takes these parameters at most, looks at all of these names, and at no others but
    some `more`. Settings that change what it does, and that no trial meets, have names too; what depends on
    sizes and numbers alone isn't seen."""
    code = getattr(forward, "__code__", None)
    if code is None or code.co_freevars or any(inspect.iscode(constant) for constant in code.co_consts):
        return False
    taken = set(inspect.signature(forward).parameters) - {"self", "kwargs"}
    return taken <= set(parameters) and set(names) <= set(code.co_names) <= {*names, *more}


def gives_the_same(ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
    """Whether both can be called, and give results of one form whose tensors differ by rounding alone."""
    try:
        return _alike(ours(), theirs())
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return False


def _alike(found: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        return isinstance(found, Tensor) and same(found, expected)
    if isinstance(expected, tuple | list):
        return (
            type(found) is type(expected)
            and len(found) == len(expected)
            and all(map(_alike, found, expected))
        )
    return found is None and expected is None
