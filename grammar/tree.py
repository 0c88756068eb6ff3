"""The syntax tree: one small frozen dataclass for each construct of the language.

Two trees are equal when they say the same, wherever they were written: spans take no part in equality or
hashing. Trees built by Python code have no spans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from grammar.errors import FormulaError


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a formula's text: half-open character offsets into `source`."""

    source: str = field(repr=False)
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number. The parser makes only non-negative ones: `-2` is `Negate(Number(2.0))`."""

    value: float
    span: Span | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise FormulaError(f"a number in a formula has to be finite, not {value}", self.span)
        object.__setattr__(self, "value", value)


@dataclass(frozen=True, slots=True)
class Text:
    """A text in quotes, such as the pattern of `matching("[a-z]+")`."""

    value: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A definition, an operand or a parameter; which of them is decided after parsing."""

    id: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sum:
    """Two or more terms, added from left to right; `a - b + c` is `Sum((a, Negate(b), c))`.

    A sum which is the first term of a sum is merged into it, since `(a + b) + c` is `a + b + c`. A sum that
    is a later term stays as it is: merging it would change the order of the additions.
    """

    terms: tuple[Expression, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.terms) < 2:
            raise FormulaError(f"a sum needs at least two terms, not {len(self.terms)}", self.span)
        first = self.terms[0]
        if isinstance(first, Sum):
            object.__setattr__(self, "terms", first.terms + self.terms[1:])


@dataclass(frozen=True, slots=True)
class Product:
    left: Expression
    right: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Quotient:
    left: Expression
    right: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of `<`, `<=`, `>`, `>=`, `==`, `!=`."""

    left: Expression
    operator: str
    right: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Keyword:
    """A named argument of a call: `p=0.9`."""

    name: str
    value: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`top_p(base, p=0.9)`. Its span begins with the function's name."""

    function: str
    arguments: tuple[Expression, ...]
    keywords: tuple[Keyword, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Definition:
    """`name = value`, a statement. `name_span` is the place of the name alone."""

    name: str
    value: Expression
    name_span: Span | None = field(default=None, compare=False, repr=False)
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole formula: definitions with distinct names, then the expression that they serve."""

    definitions: tuple[Definition, ...]
    result: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


Expression: TypeAlias = Number | Text | Name | Negate | Sum | Product | Quotient | Comparison | Call


def children(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside another, in the order in which they are written."""
    match expression:
        case Number() | Text() | Name():
            return ()
        case Negate(operand):
            return (operand,)
        case Sum(terms):
            return terms
        case Product(left, right) | Quotient(left, right) | Comparison(left, _, right):
            return (left, right)
        case Call(_, arguments, keywords):
            return arguments + tuple(keyword.value for keyword in keywords)
