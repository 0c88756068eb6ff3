"""Formulas as values: text or Python arithmetic, with the operands and parameters that its names are bound
to."""

import math
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from arith.language import operators as operators  # fills the registry
from arith.language.check import check
from arith.language.evaluate import evaluate
from arith.language.infer import infer
from arith.language.lower import lower
from arith.language.merge import Scope, with_formulas
from arith.language.names import Names, collect, refuse_reserved
from arith.language.program import Program
from arith.language.rewrite import Change, rewritten
from arith.language.values import Type
from grammar.errors import FormulaError, nearest
from grammar.parse import parse
from grammar.printer import to_text
from grammar.tree import Comparison, Document, Expression, Name, Negate, Number, Product, Quotient, Sum


class Algebra:
    """What arithmetic can be done with: `base + 0.5*arm`, on operands, formulas and numbers, builds
    formulas."""

    __slots__ = ()

    def __add__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Sum((a, b)), self, other)

    def __radd__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Sum((a, b)), other, self)

    def __sub__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Sum((a, Negate(b))), self, other)

    def __rsub__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Sum((a, Negate(b))), other, self)

    def __mul__(self, other: Any) -> "Formula":
        return _combined(Product, self, other)

    def __rmul__(self, other: Any) -> "Formula":
        return _combined(Product, other, self)

    def __truediv__(self, other: Any) -> "Formula":
        return _combined(Quotient, self, other)

    def __rtruediv__(self, other: Any) -> "Formula":
        return _combined(Quotient, other, self)

    def __neg__(self) -> "Formula":
        return _combined(Negate, self)

    def __lt__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Comparison(a, "<", b), self, other)

    def __le__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Comparison(a, "<=", b), self, other)

    def __gt__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Comparison(a, ">", b), self, other)

    def __ge__(self, other: Any) -> "Formula":
        return _combined(lambda a, b: Comparison(a, ">=", b), self, other)


class Formula(Algebra):
    """A formula with what is bound to its names.

    `Formula("base + alpha*arm")` has nothing bound; `Formula("base + alpha*arm", base=LLM(...), arm=LLM(...),
    alpha=0.3)` binds operands, and a number to a parameter; a name may also be bound to another formula, for
    which it then stands. Raises `FormulaError` with the place in the text for whatever is wrong with it.
    """

    def __init__(self, text: str, /, **bindings: Any):
        if not isinstance(text, str):
            raise TypeError(f"a formula is a text, not a {type(text).__name__}")
        document = parse(text)
        formulas = {name: value for name, value in bindings.items() if isinstance(value, Formula)}
        for name in bindings:
            refuse_reserved(name)
        values = {name: _bound_value(name, value) for name, value in bindings.items() if name not in formulas}
        inner = {name: (formula.document, formula.bindings) for name, formula in formulas.items()}
        self.document: Document
        self.bindings: dict[str, Any]
        self.document, self.bindings = with_formulas(document, values, inner)
        self._refuse_unused(bindings)
        self._analysis  # noqa: B018  (mistakes are reported here and not at the first use)

    @classmethod
    def of(cls, value: Any) -> "Formula":
        """The formula itself, or the formula that consists of one operand."""
        if isinstance(value, Formula):
            return value
        if isinstance(value, Algebra):
            return _built(Document((), Name("operand1")), {"operand1": value})
        raise TypeError(f"expected a formula or an operand, not a {type(value).__name__}")

    def __str__(self) -> str:
        return to_text(self.document)

    def __repr__(self) -> str:
        return f"Formula({str(self)!r})"

    def __bool__(self) -> bool:
        raise TypeError("a formula has no truth value: comparisons don't chain, write `(a < b)*(b < c) > 0`")

    def _refuse_unused(self, bindings: Mapping[str, Any]) -> None:
        known = {*self._names.definitions, *self._names.free}
        for name in bindings:
            if name not in known:
                close = nearest(name, known)
                raise FormulaError(
                    f"`{name}` is bound, but the formula does not use it",
                    None,
                    f"did you mean `{close}`?" if close else None,
                )

    @cached_property
    def _names(self) -> Names:
        return collect(self.document)

    @cached_property
    def _analysis(self) -> tuple[Program, Mapping[str, Type]]:
        """The program of what it means, and the type of every name that it needs, those of drafts
        included."""
        names = self._names
        bound = {
            name: Type.SCALAR if isinstance(value, float) else getattr(value, "kind", Type.DIST)
            for name, value in self.bindings.items()
            if name in names.free
        }
        try:
            free = infer(self.document, names, bound)
            types = {**free, **check(self.document, names, free)}
            nodes = lower(self.document, names, types)
        except RecursionError:
            hint = "write it as several definitions that use each other less deeply"
            raise FormulaError("the formula is nested too deeply", self.document.result.span, hint) from None
        operands, classifiers, parameters = (
            tuple(name for name in names.meant if free.get(name) is wanted)
            for wanted in (Type.DIST, Type.CLASSIFIER, Type.SCALAR)
        )
        if not operands:
            raise FormulaError("a formula needs at least one operand", self.document.result.span)
        return Program(nodes, operands, classifiers, parameters, names.positions), free

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the operands it needs, classifiers and those that `supersede` drafts with included, in
        order of first use."""
        return tuple(name for name, kind in self._analysis[1].items() if kind is not Type.SCALAR)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters it needs, in order of first use; those bound to a number included, and
        those of what `supersede` drafts with."""
        return tuple(name for name, kind in self._analysis[1].items() if kind is Type.SCALAR)

    @property
    def program(self) -> Program:
        """The compiled formula; printing it shows its graph."""
        return self._analysis[0]

    def rewritten(self, change: Change) -> "Formula":
        """The formula with parts replaced (see `arith.language.rewrite`), and what it then uses bound."""
        document = rewritten(self.document, change)
        free = collect(document).free
        return _built(document, {name: value for name, value in self.bindings.items() if name in free})

    def bound_operands(self) -> dict[str, Any]:
        """What each operand is bound to, in order of first use; `FormulaError` for a name bound to
        nothing."""
        for name in self.operands:
            if name not in self.bindings:
                close = nearest(name, [*self.bindings, *self.parameters])
                hint = (
                    f"did you mean `{close}`?"
                    if close
                    else "declare it as an operand, or bind it: Formula(text, name=LLM(...))"
                )
                raise FormulaError(
                    f"unknown name `{name}`: nothing is bound to it", self._names.free[name][0].span, hint
                )
        return {name: self.bindings[name] for name in self.operands}

    def parameter_values(self, given: Mapping[str, Any] | None = None) -> dict[str, float]:
        """The value of each parameter: those given, else those bound. Raises `FormulaError` for one that has
        no value (it may lack where it is of what `supersede` drafts with alone), a name that is no parameter,
        and a value that is no finite number."""
        given = given or {}
        for name in given:
            if name not in self.parameters:
                close = nearest(name, self.parameters)
                listed = ", ".join(f"`{p}`" for p in self.parameters) or "none"
                hint = f"did you mean `{close}`?" if close else f"its parameters: {listed}"
                raise FormulaError(f"the formula has no parameter `{name}`", None, hint)
        values = {}
        for name in self.parameters:
            if name in given:
                values[name] = _finite(name, given[name])
            elif name in self.bindings:
                values[name] = self.bindings[name]
            elif name in self.program.parameters:
                close = nearest(name, [*self.bindings])
                hint = f"give it one under `params`, as {name}: 0.5" + (
                    f", or did you mean `{close}`?" if close else ""
                )
                raise FormulaError(
                    f"the parameter `{name}` has no value", self._names.free[name][0].span, hint
                )
        return values

    def evaluate(self, /, **values: Any) -> Tensor:
        """The formula's normalised log-probabilities `[..., vocab]` for given ones of its operands.

        Takes a tensor of log-probabilities `[..., vocab]` for each operand (-inf is outside its support), a
        number or a tensor `[...]` for each parameter that is not bound to one, and for `t` and
        `prompt_length` where the formula uses them. What an engine finds out by itself is given under its
        text: `evaluate(base=…, **{"layer(base, 2)": …})`. A classifier's values for `guide` are a pair, of
        the text with each token `[..., vocab]`, and without `[...]`. `vocabulary` is a list of the tokens'
        texts, for formulas that name tokens by them. Leading dimensions are broadcast. The result has the
        widest dtype of the operands; half precision is computed in float32. Gradients flow. Raises
        `FormulaError` for a name that is missing or unused, and `EvaluationError`, a `FormulaError`, where a
        row has no value.
        """
        bound = {name: self.bindings[name] for name in self.parameters if name in self.bindings}
        drafting = {*self._names.free} - {*self._names.meant}
        known = {name: value for name, value in {**bound, **values}.items() if name not in drafting}
        return evaluate(self.program, known)


def _bound_value(name: str, value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(name, value)
    if value is None or isinstance(value, (bool, str, bytes)) or not isinstance(value, Hashable):
        raise FormulaError(f"`{name}` is bound to {value!r}: it has to be an operand, a number or a formula")
    return value


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, (bool, str)) or not math.isfinite(number):
        raise FormulaError(f"the parameter `{name}` has to be a finite number, not {value!r}")
    return number


def _built(document: Document, bindings: dict[str, Any]) -> Formula:
    """A formula from a tree; its names are sorted out when it is first used, since it may be a part of a
    larger one."""
    formula = Formula.__new__(Formula)
    formula.document, formula.bindings = document, bindings
    return formula


def _combined(build: Callable[..., Expression], *sides: Any) -> "Formula":
    """The formula that `build` makes of the sides' trees; NotImplemented for a side that can't be reckoned
    with."""
    scope = Scope()
    trees: list[Expression] = []
    for side in sides:
        if isinstance(side, (int, float)) and not isinstance(side, bool):
            trees.append(Number(side) if side >= 0 else Negate(Number(-side)))
        elif isinstance(side, Algebra):
            formula = Formula.of(side)
            trees.append(scope.graft(formula.document, formula.bindings))
        else:
            return NotImplemented  # type: ignore[no-any-return]
    return _built(Document(tuple(scope.definitions), build(*trees)), scope.bindings)
