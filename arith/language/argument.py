"""The parameters of operators: which values they take, read from a function's annotations."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from arith.language.inputs import Inputs
from arith.language.values import Dist, Type

ANY = frozenset({Type.SCALAR, Type.DIST, Type.VEC})

Same = Annotated[Any, ANY]
"""An argument of any arithmetic type; all arguments marked so in one operator have one type."""
Number = Annotated[Any, frozenset({Type.SCALAR, Type.VEC})]
"""A scalar or a vec."""
Direction = Annotated[Any, frozenset({Type.DIST, Type.VEC})]
"""A dist or a vec."""
Region = Annotated[Any, frozenset({Type.DIST, Type.MASK})]
"""A set of tokens: a mask, or a dist standing for its support."""


@dataclass(frozen=True)
class Static:
    """Marks an argument that is known when a formula is compiled, and reaches the function as plain data."""

    types: frozenset[Type]


OperandName = Annotated[str, Static(frozenset({Type.DIST}))]
"""The name of an operand, not an expression over operands."""
ClassifierName = Annotated[str, Static(frozenset({Type.CLASSIFIER}))]
"""The name of a classifier or a reward model."""
Constant = Annotated[float, Static(frozenset({Type.SCALAR}))]
"""A number that doesn't depend on rows or parameters."""
Flag = Annotated[bool, Static(frozenset({Type.SCALAR}))]
"""`true` or `false`."""
Literal = Annotated[str, Static(frozenset({Type.TEXT}))]
"""A text in quotes."""
Token = Annotated[float | str, Static(frozenset({Type.SCALAR, Type.TEXT}))]
"""A token: its id, or its text in quotes."""


@dataclass(frozen=True)
class Domain:
    """The values that an argument may have."""

    words: str
    holds: Callable[
        [Any], Any
    ]  # of a float or, elementwise, of a tensor; of a text where the argument is one


@dataclass(frozen=True)
class Argument:
    """One parameter of an operator: its name, its types, and how it treats a dist given to it."""

    name: str
    types: frozenset[Type]
    required: bool = True
    variadic: bool = False
    static: bool = False
    flag: bool = False
    domain: Domain | None = None
    passes_shift: bool = False
    absorbs_shift: bool = False

    @property
    def same(self) -> bool:
        """Whether it takes any arithmetic type, and has to agree with the others that do."""
        return self.types == ANY

    @property
    def polymorphic(self) -> bool:
        """Whether the type of its value decides that of the operator's result."""
        return len(self.types) > 1 and not self.static and Type.MASK not in self.types

    def __str__(self) -> str:
        star, optional = "*" if self.variadic else "", "" if self.required or self.variadic else "?"
        return f"{star}{self.name}{optional}: {self.kinds}"

    @property
    def kinds(self) -> str:
        """Its types in words."""
        if self.same:
            return "same type"
        if self.static and self.types == {Type.DIST}:
            return "operand"
        return "true | false" if self.flag else " | ".join(sorted(str(kind) for kind in self.types))


def takes_inputs(function: Callable[..., Any]) -> bool:
    """Whether a function's first parameter is the evaluation's `Inputs`."""
    return Inputs in typing.get_type_hints(function).values()


def arguments_of(
    function: Callable[..., Any],
    domains: Mapping[str, Domain],
    passes_shift: Sequence[str],
    absorbs_shift: Sequence[str],
) -> tuple[Argument, ...]:
    """The operator arguments that a function's annotations describe. `ValueError` where one says nothing."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if hint is Inputs:
            continue
        static = next((member for member in typing.get_args(hint) if isinstance(member, Static)), None)
        types = types_of(hint) if static is None else static.types
        if not types:
            raise ValueError(
                f"`{parameter.name}` of `{function.__name__}` needs an annotation that says its type: Dist, "
                "Scalar, Vec, Mask, or another of arith.language.argument"
            )
        flag = hint == Flag
        found.append(
            Argument(
                name=parameter.name,
                types=types,
                required=parameter.default is inspect.Parameter.empty,
                variadic=parameter.kind is inspect.Parameter.VAR_POSITIONAL,
                static=static is not None,
                flag=flag,
                domain=domains.get(parameter.name),
                passes_shift=parameter.name in passes_shift,
                absorbs_shift=parameter.name in absorbs_shift,
            )
        )
    return tuple(found)


def types_of(hint: Any) -> frozenset[Type]:
    """The types of the language that an annotation stands for; empty where it stands for none."""
    if hint is Dist:
        return frozenset({Type.DIST})
    for member in typing.get_args(hint):
        if isinstance(member, Type):
            return frozenset({member})
        if isinstance(member, frozenset):
            return member
        if member is not type(None) and (found := types_of(member)):
            return found
    return frozenset()
