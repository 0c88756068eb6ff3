"""Putting formulas together: one set of names out of two, where equal names and unnamed operands meet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from grammar.errors import FormulaError
from grammar.tree import (
    Call,
    Comparison,
    Definition,
    Document,
    Expression,
    Keyword,
    Name,
    Negate,
    Number,
    Product,
    Quotient,
    Sum,
)

UNNAMED = re.compile(r"operand[0-9]+")


@dataclass
class Scope:
    """The definitions and bindings of a formula under construction."""

    definitions: list[Definition] = field(default_factory=list)
    bindings: dict[str, Any] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def graft(self, document: Document, bindings: Mapping[str, Any]) -> Expression:
        """Takes another formula's definitions and bindings in, and gives its result in the names of this
        scope.

        Definitions and unnamed operands are renamed where their names are taken; an operand bound already
        keeps its name. Raises `FormulaError` where one name is bound to two different things.
        """
        renamed: dict[str, str] = {}
        for name, value in bindings.items():
            renamed[name] = self._bind(name, value)
        for definition in document.definitions:
            if definition in self.definitions:
                continue
            renamed[definition.name] = self._free(definition.name)
            self.taken.add(renamed[definition.name])
        for definition in document.definitions:
            if definition in self.definitions:
                continue
            value = rename(definition.value, renamed)
            name = renamed[definition.name]
            self.definitions.append(Definition(name, value, definition.name_span, definition.span))
        return rename(document.result, renamed)

    def _bind(self, name: str, value: Any) -> str:
        unnamed = UNNAMED.fullmatch(name) is not None
        if unnamed:
            for known, other in self.bindings.items():
                if not isinstance(other, float) and other == value:
                    return known
            name = self._free(name)
        elif name in self.bindings and self.bindings[name] != value:
            raise FormulaError(
                f"`{name}` is bound to two different things: {self.bindings[name]!r} and {value!r}"
            )
        elif name in self.taken and name not in self.bindings:
            raise FormulaError(
                f"`{name}` is bound in one formula and a definition in the other", None, "rename one of them"
            )
        self.bindings[name] = value
        self.taken.add(name)
        return name

    def _free(self, name: str) -> str:
        if name not in self.taken:
            return name
        stem = name.rstrip("0123456789") if UNNAMED.fullmatch(name) else f"{name}_"
        return next(f"{stem}{number}" for number in count(2) if f"{stem}{number}" not in self.taken)


def with_formulas(
    document: Document,
    bindings: Mapping[str, Any],
    formulas: Mapping[str, tuple[Document, Mapping[str, Any]]],
) -> tuple[Document, dict[str, Any]]:
    """A formula in which some names stand for other formulas, each given as its tree and bindings."""
    scope = Scope(list(document.definitions), dict(bindings))
    scope.taken = {definition.name for definition in document.definitions} | set(bindings) | set(formulas)
    for name, (inner, inner_bindings) in formulas.items():
        if any(definition.name == name for definition in document.definitions):
            raise FormulaError(f"`{name}` is bound, but the formula defines it")
        scope.definitions.append(Definition(name, scope.graft(inner, inner_bindings)))
    return Document(tuple(scope.definitions), document.result, document.span), scope.bindings


def rename(node: Expression, names: Mapping[str, str]) -> Expression:
    """The expression with its names replaced."""
    if not names or all(old == new for old, new in names.items()):
        return node
    match node:
        case Number():
            return node
        case Name(name):
            return Name(names.get(name, name), node.span)
        case Negate(operand):
            return Negate(rename(operand, names), node.span)
        case Sum(terms):
            return Sum(tuple(rename(term, names) for term in terms), node.span)
        case Product(left, right):
            return Product(rename(left, names), rename(right, names), node.span)
        case Quotient(left, right):
            return Quotient(rename(left, names), rename(right, names), node.span)
        case Comparison(left, sign, right):
            return Comparison(rename(left, names), sign, rename(right, names), node.span)
        case Call(function, arguments, keywords):
            return Call(
                function,
                tuple(rename(argument, names) for argument in arguments),
                tuple(Keyword(k.name, rename(k.value, names), k.span) for k in keywords),
                node.span,
            )
