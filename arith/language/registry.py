"""The registry of operators: what the language can call, with types, domains and documentation."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from arith.language.values import Dist, Type
from grammar.errors import FormulaError, nearest
from grammar.tree import Call, Expression

Same = Annotated[Any, frozenset({Type.SCALAR, Type.DIST, Type.VEC})]
"""An argument of any arithmetic type; all arguments marked so in one operator have one type."""
Number = Annotated[Any, frozenset({Type.SCALAR, Type.VEC})]
"""A scalar or a vec."""
Region = Annotated[Any, frozenset({Type.DIST, Type.MASK})]
"""A set of tokens: a mask, or a dist standing for its support."""

Function = TypeVar("Function", bound=Callable[..., Any])

ANY = frozenset({Type.SCALAR, Type.DIST, Type.VEC})


@dataclass(frozen=True)
class Domain:
    """The values that a scalar argument may have."""

    words: str
    holds: Callable[[Any], Any]  # of a float or, elementwise, of a tensor


@dataclass(frozen=True)
class Argument:
    """One parameter of an operator: its name, its types, and how it treats a dist given to it."""

    name: str
    types: frozenset[Type]
    same: bool = False
    required: bool = True
    variadic: bool = False
    domain: Domain | None = None
    passes_shift: bool = False
    absorbs_shift: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator of the language. `function` computes it on run-time values (see
    `arith.language.values`)."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Argument, ...]
    result: (
        Type | None
    )  # None: decided by `returns`, from the type of the first argument marked Same or Number
    returns: Mapping[Type, Type]
    summary: str
    example: str
    source: str
    doc: str
    aliases: tuple[str, ...]

    @property
    def signature(self) -> str:
        """How it is called: `top_k(f: dist, k: scalar) -> dist`."""
        parts = []
        for argument in self.arguments:
            kind = "same type" if argument.same else " | ".join(sorted(str(t) for t in argument.types))
            star, optional = "*" if argument.variadic else "", "" if argument.required else "?"
            parts.append(f"{star}{argument.name}{optional}: {kind}")
        if self.result is not None:
            result = str(self.result)
        elif all(given is got for given, got in self.returns.items()):
            result = "same type"
        else:
            result = ", ".join(f"{got} of a {given}" for given, got in self.returns.items())
        return f"{self.name}({', '.join(parts)}) -> {result}"

    def bind(self, call: Call) -> tuple[tuple[Argument, Expression], ...]:
        """The call's expressions with the arguments that they are given for, in the order of the signature.

        Raises `FormulaError` for a missing, surplus, repeated or unknown argument.
        """
        if self.arguments and self.arguments[0].variadic:
            return self._bind_variadic(call)
        names = [argument.name for argument in self.arguments]
        if len(call.arguments) > len(names):
            surplus = call.arguments[len(names)]
            raise self._error(
                f"`{self.name}` takes at most {len(names)} arguments", surplus.span or call.span
            )
        bound = dict(zip(names, call.arguments, strict=False))
        for keyword in call.keywords:
            if keyword.name not in names:
                close = nearest(keyword.name, names)
                fix = f"did you mean `{close}`?" if close else None
                raise self._error(f"`{self.name}` has no argument `{keyword.name}`", keyword.span, fix)
            if keyword.name in bound:
                raise self._error(f"argument `{keyword.name}` of `{self.name}` is given twice", keyword.span)
            bound[keyword.name] = keyword.value
        for argument in self.arguments:
            if argument.required and argument.name not in bound:
                raise self._error(f"`{self.name}` needs the argument `{argument.name}`", call.span)
        return tuple(
            (argument, bound[argument.name]) for argument in self.arguments if argument.name in bound
        )

    def _bind_variadic(self, call: Call) -> tuple[tuple[Argument, Expression], ...]:
        if call.keywords:
            raise self._error(f"`{self.name}` takes no named arguments", call.keywords[0].span)
        if len(call.arguments) < 2:
            raise self._error(f"`{self.name}` takes two or more arguments", call.span)
        return tuple((self.arguments[0], expression) for expression in call.arguments)

    def _error(self, message: str, span: Any, fix: str | None = None) -> FormulaError:
        usage = f"it is called as {self.signature}, for example `{self.example}`"
        return FormulaError(message, span, f"{fix} {usage}" if fix else usage)


REGISTRY: dict[str, Operator] = {}
"""Every operator by its name and by each of its aliases."""


def operator(
    name: str,
    *,
    example: str,
    source: str = "",
    aliases: Sequence[str] = (),
    domains: Mapping[str, Domain] | None = None,
    returns: Mapping[Type, Type] | None = None,
    passes_shift: Sequence[str] = (),
    absorbs_shift: Sequence[str] = (),
) -> Callable[[Function], Function]:
    """Registers a function on run-time values as an operator of the language.

    The function's annotations (`Dist`, `Scalar`, `Vec`, `Mask`, `Same`, `Number`, `Region`) are its types,
    its docstring is its documentation; a default of None makes an argument optional. A dist means the same
    whatever is added to all log-weights of a row: `absorbs_shift` names the arguments for which the result
    does not depend on that constant, `passes_shift` those where it comes out again as a constant. For any
    other dist argument the operands are normalised first. `returns` gives the result's type for each type of
    a polymorphic argument.
    """

    def register(function: Function) -> Function:
        hints = typing.get_type_hints(function, include_extras=True)
        arguments = tuple(
            _argument(parameter, hints[parameter.name], domains or {}, passes_shift, absorbs_shift)
            for parameter in inspect.signature(function).parameters.values()
        )
        doc = inspect.getdoc(function) or ""
        entry = Operator(
            name=name,
            function=function,
            arguments=arguments,
            result=None if returns else next(iter(_types(hints["return"]))),
            returns=returns or {},
            summary=" ".join(doc.partition("\n\n")[0].split()),
            example=example,
            source=source,
            doc=doc,
            aliases=tuple(aliases),
        )
        for known in (name, *aliases):
            if known in REGISTRY or known == "t":
                raise ValueError(f"the operator name `{known}` is taken")
        REGISTRY.update(dict.fromkeys((name, *aliases), entry))
        return function

    return register


def _types(hint: Any) -> frozenset[Type]:
    if hint is Dist:
        return frozenset({Type.DIST})
    for member in typing.get_args(hint):
        if isinstance(member, Type):
            return frozenset({member})
        if isinstance(member, frozenset):
            return member
        if member is not type(None) and (found := _types(member)):
            return found
    return frozenset()


def _argument(
    parameter: inspect.Parameter,
    hint: Any,
    domains: Mapping[str, Domain],
    passes_shift: Sequence[str],
    absorbs_shift: Sequence[str],
) -> Argument:
    types = _types(hint)
    return Argument(
        name=parameter.name,
        types=types,
        same=types == ANY,
        required=parameter.default is inspect.Parameter.empty,
        variadic=parameter.kind is inspect.Parameter.VAR_POSITIONAL,
        domain=domains.get(parameter.name),
        passes_shift=parameter.name in passes_shift,
        absorbs_shift=parameter.name in absorbs_shift,
    )


def find(call: Call) -> Operator:
    """The operator that a call names; `FormulaError` with the nearest name where there is none."""
    if call.function in REGISTRY:
        return REGISTRY[call.function]
    close = nearest(call.function, REGISTRY)
    hint = f"did you mean `{close}`?" if close else "`arith operators` lists what there is"
    raise FormulaError(f"there is no operator `{call.function}`", call.span, hint)
