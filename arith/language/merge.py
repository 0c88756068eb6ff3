"""Putting formulas together: one set of names out of two, where equal names and unnamed operands meet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from arith.language.names import names_in, ordered
from arith.language.rewrite import rewrite
from grammar.errors import FormulaError
from grammar.tree import Definition, Document, Expression, Name

UNNAMED = re.compile(r"operand[0-9]+")


@dataclass
class Scope:
    """The definitions and bindings of a formula under construction; `taken` are all names in use, and
    `defined` those that stand for expressions."""

    definitions: list[Definition] = field(default_factory=list)
    bindings: dict[str, Any] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def graft(self, document: Document, bindings: Mapping[str, Any]) -> Expression:
        """Takes another formula's definitions and bindings in, and gives its result in the names of this
        scope.

        Definitions and unnamed operands are renamed where their names are taken; an operand bound already
        keeps its name, and so does an equal definition. Raises `FormulaError` where one name would stand for
        two different things.
        """
        inner = {definition.name: definition for definition in document.definitions}
        uses = {name: names_in(definition.value) for name, definition in inner.items()}
        for node in [node for nodes in (*uses.values(), names_in(document.result)) for node in nodes]:
            if node.id not in inner and node.id not in bindings:
                self._refuse_defined(node.id)
                self.taken.add(node.id)
        renamed = {name: self._bind(name, value) for name, value in bindings.items()}
        for name in ordered(inner, uses):
            renamed[name] = self._define(inner[name], rename(inner[name].value, renamed))
        return rename(document.result, renamed)

    def _refuse_defined(self, name: str) -> None:
        if name in self.defined:
            message = f"`{name}` is a definition in one formula, and in the other it is not"
            raise FormulaError(message, None, "rename one of them")

    def _define(self, definition: Definition, value: Expression) -> str:
        for known in self.definitions:
            if known.value == value and known.name.startswith(definition.name):
                return known.name
        name = self._free(definition.name)
        self.taken.add(name)
        self.defined.add(name)
        self.definitions.append(Definition(name, value, definition.name_span, definition.span))
        return name

    def _bind(self, name: str, value: Any) -> str:
        if UNNAMED.fullmatch(name) is not None:
            for known, other in self.bindings.items():
                if not isinstance(other, float) and other == value:
                    return known
            name = next(n for n in map("operand{}".format, count(1)) if n not in self.taken)
        elif name in self.bindings and self.bindings[name] != value:
            raise FormulaError(
                f"`{name}` is bound to two different things: {self.bindings[name]!r} and {value!r}"
            )
        else:
            self._refuse_defined(name)
        self.bindings[name] = value
        self.taken.add(name)
        return name

    def _free(self, name: str) -> str:
        if name not in self.taken:
            return name
        return next(n for n in (f"{name}_{number}" for number in count(2)) if n not in self.taken)


def with_formulas(
    document: Document,
    bindings: Mapping[str, Any],
    formulas: Mapping[str, tuple[Document, Mapping[str, Any]]],
) -> tuple[Document, dict[str, Any]]:
    """A formula in which some names stand for other formulas, each given as its tree and bindings."""
    for definition in document.definitions:
        if definition.name in bindings or definition.name in formulas:
            message = f"`{definition.name}` is bound, but the formula defines it"
            raise FormulaError(message, definition.name_span)
    scope = Scope(list(document.definitions), dict(bindings))
    scope.defined = {definition.name for definition in document.definitions} | set(formulas)
    scope.taken = scope.defined | set(bindings)
    for body in [*(definition.value for definition in document.definitions), document.result]:
        scope.taken.update(node.id for node in names_in(body))
    for name, (inner, inner_bindings) in formulas.items():
        scope.definitions.append(Definition(name, scope.graft(inner, inner_bindings)))
    return Document(tuple(scope.definitions), document.result, document.span), scope.bindings


def rename(node: Expression, names: Mapping[str, str]) -> Expression:
    """The expression with its names replaced."""
    if not names or all(old == new for old, new in names.items()):
        return node
    return rewrite(
        node, lambda one: Name(names.get(one.id, one.id), one.span) if isinstance(one, Name) else None
    )
