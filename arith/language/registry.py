"""The registry of operators: what the language can call, with types, domains and documentation."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from arith.language.argument import Argument, Domain, arguments_of, takes_inputs, types_of
from arith.language.inputs import Inputs
from arith.language.values import Type
from grammar.errors import FormulaError, nearest
from grammar.tree import Call, Expression, Name

RESERVED = {
    "t": "the number of tokens generated so far",
    "prompt_length": "the number of tokens of the prompt",
    "true": "the number 1",
    "false": "the number 0",
    "vocabulary": "the texts of all tokens",
    "formula": "the formula itself, in results",
    "prompt_lookup": "a draft from the row's own text",
}
"""Names that nothing else may be called, and what each stands for."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operator:
    """An operator of the language. `function` computes it on run-time values (see
    `arith.language.values`)."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Argument, ...]
    result: Type | None  # None: by `returns`, from the type of the first argument of several types
    returns: Mapping[Type, Type]
    switches: Mapping[str, Type]
    takes_inputs: bool
    unnormalized: bool
    summary: str
    example: str
    source: str
    doc: str
    aliases: tuple[str, ...]

    @property
    def signature(self) -> str:
        """How it is called: `top_k(f: dist, k: scalar) -> dist`."""
        if self.result is not None:
            result = str(self.result)
        elif all(given is got for given, got in self.returns.items()):
            result = "same type"
        else:
            result = ", ".join(f"{got} of a {given}" for given, got in self.returns.items())
        result += "".join(f", {kind} with {flag}=true" for flag, kind in self.switches.items())
        return f"{self.name}({', '.join(map(str, self.arguments))}) -> {result}"

    def bind(self, call: Call) -> tuple[tuple[Argument, Expression], ...]:
        """The call's expressions with the arguments that they are given for, in the order of the signature.

        Raises `FormulaError` for a missing, surplus, repeated or unknown argument.
        """
        variadic = self.arguments[-1] if self.arguments and self.arguments[-1].variadic else None
        single = self.arguments if variadic is None else self.arguments[:-1]
        given, rest = call.arguments[: len(single)], call.arguments[len(single) :]
        if rest and variadic is None:
            message = f"`{self.name}` takes at most {len(single)} arguments"
            raise self._error(message if single else f"`{self.name}` takes no arguments", rest[0].span)
        bound = self._bind_keywords(call, dict(zip([a.name for a in single], given, strict=False)))
        for argument in single:
            if argument.required and argument.name not in bound:
                raise self._error(f"`{self.name}` needs the argument `{argument.name}`", call.span)
        pairs = [(argument, bound[argument.name]) for argument in single if argument.name in bound]
        if variadic is not None:
            fewest = 2 if variadic.same else 1
            if len(rest) < fewest:
                words = "two or more arguments" if fewest == 2 else f"one or more `{variadic.name}`"
                raise self._error(f"`{self.name}` takes {words}", call.span)
            pairs += [(variadic, expression) for expression in rest]
        return tuple(pairs)

    def _bind_keywords(self, call: Call, bound: dict[str, Expression]) -> dict[str, Expression]:
        names = [argument.name for argument in self.arguments if not argument.variadic]
        for keyword in call.keywords:
            if not names:
                raise self._error(f"`{self.name}` takes no named arguments", keyword.span)
            if keyword.name not in names:
                close = nearest(keyword.name, names)
                fix = f"did you mean `{close}`?" if close else None
                raise self._error(f"`{self.name}` has no argument `{keyword.name}`", keyword.span, fix)
            if keyword.name in bound:
                raise self._error(f"argument `{keyword.name}` of `{self.name}` is given twice", keyword.span)
            bound[keyword.name] = keyword.value
        return bound

    def apply(
        self,
        names: Sequence[str],
        values: Sequence[Any],
        statics: Sequence[tuple[str, Any]] = (),
        inputs: Inputs | None = None,
    ) -> Any:
        """The function's result: `values` are for the arguments in `names`, where a variadic one's name
        is repeated."""
        single = [argument.name for argument in self.arguments if not argument.variadic]
        given: dict[str, Any] = {}
        rest: list[Any] = []
        for name, value in zip(names, values, strict=True):
            if name in single:
                given[name] = value
            else:
                rest.append(value)
        for name, plain in statics:
            if name in single:
                given[name] = plain
            else:
                rest += plain
        first = [inputs] if self.takes_inputs else []
        if len(single) < len(self.arguments):
            return self.function(*first, *(given[name] for name in single), *rest)
        return self.function(*first, **given)

    def result_of(self, call: Call) -> Type | None:
        """The type of a call where its arguments' types don't decide it; None where they do."""
        for argument, value in self.bind(call) if self.switches else ():
            if argument.name in self.switches and value == Name("true"):
                return self.switches[argument.name]
        return self.result

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
    switches: Mapping[str, Type] | None = None,
    passes_shift: Sequence[str] = (),
    absorbs_shift: Sequence[str] = (),
    unnormalized: bool = False,
) -> Callable[[Function], Function]:
    """Registers a function on run-time values as an operator of the language.

    The function's annotations (`Dist`, `Scalar`, `Vec`, `Mask`, and those of `arith.language.argument`) are
    its types, its docstring is its documentation; a default of None makes an argument optional. A first
    parameter `Inputs` gets what the evaluation is given. A dist means the same whatever is added to all
    log-weights of a row: `absorbs_shift` names the arguments for which the result does not depend on that
    constant, `passes_shift` those where it comes out again as a constant. For any other dist argument the
    operands are normalised first; `unnormalized` says that the result needs this too, as an operand's logits
    do. `returns` gives the result's type for each type of a polymorphic argument, `switches` the type where a
    flag is true. Raises `ValueError` for a name that is taken and for annotations that say no type.
    """

    def register(function: Function) -> Function:
        doc = inspect.getdoc(function) or ""
        results = types_of(typing.get_type_hints(function, include_extras=True).get("return"))
        if not returns and len(results) != 1:
            raise ValueError(f"`{function.__name__}` needs a return annotation that says one type")
        entry = Operator(
            name=name,
            function=function,
            arguments=arguments_of(function, domains or {}, passes_shift, absorbs_shift),
            result=None if returns else next(iter(results)),
            returns=returns or {},
            switches=switches or {},
            takes_inputs=takes_inputs(function),
            unnormalized=unnormalized,
            summary=" ".join(doc.partition("\n\n")[0].split()),
            example=example,
            source=source,
            doc=doc,
            aliases=tuple(aliases),
        )
        for known in (name, *aliases):
            if known in REGISTRY or known in RESERVED:
                raise ValueError(f"the operator name `{known}` is taken")
        REGISTRY.update(dict.fromkeys((name, *aliases), entry))
        return function

    return register


def find(call: Call) -> Operator:
    """The operator that a call names; `FormulaError` with the nearest name where there is none."""
    if call.function in REGISTRY:
        return REGISTRY[call.function]
    close = nearest(call.function, REGISTRY)
    hint = f"did you mean `{close}`?" if close else "`arith operators` lists what there is"
    raise FormulaError(f"there is no operator `{call.function}`", call.span, hint)
