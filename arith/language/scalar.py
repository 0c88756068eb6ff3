"""Expressions over numbers alone, in the language of formulas."""

from collections.abc import Mapping

from arith.language import operators as operators  # fills the registry
from arith.language.check import type_of
from arith.language.lower import lower
from arith.language.names import collect
from arith.language.rewrite import rewritten
from arith.language.values import Type
from grammar.errors import FormulaError, nearest
from grammar.parse import parse
from grammar.tree import Expression, Name, Negate, Number


class Scalar:
    """An expression such as `1 - h`, whose names stand for numbers."""

    def __init__(self, text: str):
        """Raises `FormulaError` for what isn't an expression of the language."""
        self.text = text
        self._document = parse(text)
        self._names = collect(self._document)
        for name in self._names.positions:
            raise FormulaError(f"`{name}` is a number of each step, and not known beforehand")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it needs values of, in order of first use."""
        return tuple(self._names.free)

    def value(self, values: Mapping[str, float]) -> float:
        """What it comes to.

        Raises `FormulaError`, with the place in the text, for a name without a value, for what is no scalar,
        and where there is no finite result, as in a division by zero.
        """
        for name, places in self._names.free.items():
            if name not in values:
                close = nearest(name, values)
                hint = (
                    f"did you mean `{close}`?"
                    if close
                    else f"names with values: {', '.join(values) or 'none'}"
                )
                raise FormulaError(f"`{name}` has no value", places[0].span, hint)
        document = rewritten(self._document, lambda node: _number(node, values))
        names = collect(document)
        types: dict[str, Type] = {}
        for name, definition in names.definitions.items():
            types[name] = type_of(definition.value, types)
        if (kind := type_of(document.result, types)) is not Type.SCALAR:
            raise FormulaError(f"the value is a {kind}, not a number", document.result.span)
        folded = lower(document, names, types)[-1].payload
        assert isinstance(folded, float), "of numbers alone everything is folded"
        return folded


def _number(node: Expression, values: Mapping[str, float]) -> Expression | None:
    if not isinstance(node, Name) or node.id not in values:
        return None
    value = values[node.id]
    return Number(value, node.span) if value >= 0 else Negate(Number(-value, node.span), node.span)
