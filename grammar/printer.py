"""A syntax tree back to text, in the one canonical form, which parses to an equal tree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import IntEnum

from grammar.tree import (
    Call,
    Comparison,
    Definition,
    Document,
    Expression,
    Name,
    Negate,
    Number,
    Product,
    Quotient,
    Sum,
    Text,
)


class Binding(IntEnum):
    """How tightly an expression holds together; looser ones need parentheses inside tighter ones."""

    COMPARISON = 1
    SUM = 2
    PRODUCT = 3
    UNARY = 4
    ATOM = 5


Piece = str | tuple[Expression, Binding]  # text, or an expression with the least binding it must have here


def to_text(node: Document | Expression) -> str:
    """The canonical text of a formula or a part of one: `parse(to_text(tree)) == tree` if `parse` made it.

    Trees that only Python code builds are printed too, with the parentheses that keep their meaning.
    """
    if not isinstance(node, Document):
        return _expression_text(node)
    result = _expression_text(node.result)
    if node.definitions and result.startswith("-"):
        result = f"({result})"  # a line that begins with an operator would continue the last definition
    return "\n".join([*map(_definition_text, node.definitions), result])


def _definition_text(definition: Definition) -> str:
    return f"{definition.name} = {_expression_text(definition.value)}"


def _expression_text(expression: Expression) -> str:
    # A stack of our own, since Python code may build trees deeper than the interpreter's.
    text: list[str] = []
    waiting: list[Piece] = [(expression, Binding.COMPARISON)]
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, str):
            text.append(piece)
            continue
        inner, least = piece
        pieces = list(_pieces(inner))
        if _binding(inner) < least:
            pieces = ["(", *pieces, ")"]
        waiting.extend(reversed(pieces))
    return "".join(text)


def _pieces(expression: Expression) -> Iterator[Piece]:
    match expression:
        case Number(value):
            yield _number_text(value)
        case Text(value):
            yield _quoted(value)
        case Name(id):
            yield id
        case Negate(operand):
            yield from ("-", (operand, Binding.ATOM))
        case Sum(terms):
            yield (terms[0], Binding.PRODUCT)
            for term in terms[1:]:
                yield from _later_term(term)
        case Product(left, right):
            yield from ((left, Binding.PRODUCT), "*", (right, Binding.ATOM))
        case Quotient(left, right):
            yield from ((left, Binding.PRODUCT), "/", (right, Binding.ATOM))
        case Comparison(left, operator, right):
            yield from ((left, Binding.SUM), f" {operator} ", (right, Binding.SUM))
        case Call():
            yield from _call_pieces(expression)


def _later_term(term: Expression) -> Iterator[Piece]:
    match term:
        case Negate(operand):
            tight = _binding(operand) == Binding.UNARY  # `a - (-b)`, not `a - -b`
            yield from (" - ", (operand, Binding.ATOM if tight else Binding.PRODUCT))
        case Number(value) if _is_negative(value):
            yield from (" - ", _number_text(-value))
        case _:
            yield from (" + ", (term, Binding.PRODUCT))


def _call_pieces(call: Call) -> Iterator[Piece]:
    yield f"{call.function}("
    separator = ""
    for argument in call.arguments:
        yield from (separator, (argument, Binding.COMPARISON))
        separator = ", "
    for keyword in call.keywords:
        yield from (f"{separator}{keyword.name}=", (keyword.value, Binding.COMPARISON))
        separator = ", "
    yield ")"


def _binding(expression: Expression) -> Binding:
    match expression:
        case Comparison():
            return Binding.COMPARISON
        case Sum():
            return Binding.SUM
        case Product() | Quotient():
            return Binding.PRODUCT
        case Negate():
            return Binding.UNARY
        case Number(value):
            return Binding.UNARY if _is_negative(value) else Binding.ATOM
        case Text() | Name() | Call():
            return Binding.ATOM


def _is_negative(value: float) -> bool:
    return math.copysign(1.0, value) < 0


def _number_text(value: float) -> str:
    return repr(value).removesuffix(".0")


def _quoted(value: str) -> str:
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    if character in named:
        return named[character]
    return character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
