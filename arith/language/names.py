"""What the names of a formula stand for: definitions, operands or parameters."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from arith.language.registry import REGISTRY, RESERVED, find
from grammar.errors import FormulaError
from grammar.tree import Call, Definition, Document, Expression, Name, Span, children

POSITIONS = ("t", "prompt_length")
"""Scalars of each row that every formula may use."""
TRUTHS = {"true": 1.0, "false": 0.0}
"""Numbers with names."""
GIVEN = (*POSITIONS, *TRUTHS)
"""Names of scalars that need no binding."""


@dataclass(frozen=True)
class Names:
    """The names of one formula: definitions in an order in which each uses only earlier ones, and the free
    names.

    `free` maps each name that is no definition to the places of its use, in order of first use. `meant` are
    the names, definitions among them, that have a part in what the formula means, and don't only say what
    drafts, in order of first use for that; `positions` those of `POSITIONS` that have.
    """

    definitions: Mapping[str, Definition]
    free: Mapping[str, tuple[Name, ...]]
    meant: tuple[str, ...]
    positions: tuple[str, ...]


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all inside it, in the order in which they are written."""
    pending = [expression]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(children(node)))


def collect(document: Document) -> Names:
    """Sorts out the names of a formula. Raises `FormulaError` for reserved names, circular definitions and
    calls that fit no operator, those in definitions that the result doesn't use included."""
    for definition in document.definitions:
        refuse_reserved(definition.name, definition.name_span)
    by_name = {definition.name: definition for definition in document.definitions}
    for call in calls_in(document):
        find(call).bind(call)
    order = ordered(by_name, {name: names_in(definition.value) for name, definition in by_name.items()})
    free: dict[str, tuple[Name, ...]] = {}
    for node in _uses(document, names_in):
        if node.id in REGISTRY:
            example = REGISTRY[node.id].example
            raise FormulaError(f"`{node.id}` is an operator", node.span, f"call it, as in `{example}`")
        if node.id in RESERVED and node.id not in GIVEN:
            refuse_reserved(node.id, node.span)
        if node.id not in GIVEN and node.id not in by_name:
            free[node.id] = (*free.get(node.id, ()), node)
    meant = dict.fromkeys(node.id for node in _uses(document, meant_names))
    needed = _reached(document, names_in)
    return Names(
        {name: by_name[name] for name in order if name in needed},
        free,
        tuple(name for name in meant if name in free or name in needed),
        tuple(name for name in meant if name in POSITIONS),
    )


def _uses(document: Document, found_in: Callable[[Expression], list[Name]]) -> list[Name]:
    """The uses of names in the result and in the definitions that it needs, as they are written."""
    return [node for body in _bodies(document, found_in) for node in found_in(body)]


def _bodies(document: Document, found_in: Callable[[Expression], list[Name]]) -> list[Expression]:
    """What the definitions stand for that the result needs, and the result, as they are written."""
    needed = _reached(document, found_in)
    bodies = [definition.value for definition in document.definitions if definition.name in needed]
    return [*bodies, document.result]


def _reached(document: Document, found_in: Callable[[Expression], list[Name]]) -> set[str]:
    """The names of the definitions that the result needs."""
    by_name = {definition.name: definition.value for definition in document.definitions}
    reached: set[str] = set()
    pending = found_in(document.result)
    while pending:
        name = pending.pop().id
        if name in by_name and name not in reached:
            reached.add(name)
            pending.extend(found_in(by_name[name]))
    return reached


def calls_in(document: Document) -> list[Call]:
    """Every call of a formula, in the order in which they are written."""
    bodies = [*(definition.value for definition in document.definitions), document.result]
    return [node for body in bodies for node in walk(body) if isinstance(node, Call)]


def superseding(call: Call) -> tuple[Expression, Expression]:
    """What a call of `supersede` drafts with, and what it means."""
    (_, small), (_, large) = find(call).bind(call)
    return small, large


def supersedes(document: Document) -> bool:
    """Whether a formula itself says what drafts for it."""
    nodes = [node for body in _bodies(document, names_in) for node in walk(body)]
    return any(isinstance(node, Call) and node.function == "supersede" for node in nodes)


def refuse_reserved(name: str, span: Span | None = None) -> None:
    """Raises `FormulaError` where a name is an operator's or one of `RESERVED`."""
    if name in RESERVED:
        raise FormulaError(f"`{name}` is reserved: it is {RESERVED[name]}", span, "choose another name")
    if name in REGISTRY:
        raise FormulaError(f"`{name}` is reserved: it is an operator", span, "choose another name")


def names_in(expression: Expression) -> list[Name]:
    """Every use of a name inside the expression, in the order in which they are written."""
    return [node for node in walk(expression) if isinstance(node, Name)]


def meant_names(expression: Expression) -> list[Name]:
    """The same, without those where `supersede` says what drafts."""
    found: list[Name] = []
    pending = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Name):
            found.append(node)
        elif isinstance(node, Call) and node.function == "supersede":
            pending.append(superseding(node)[1])
        else:
            pending.extend(reversed(children(node)))
    return found


def ordered(by_name: Mapping[str, Definition], uses: Mapping[str, list[Name]]) -> list[str]:
    """The names of the definitions, each after those that it uses; `FormulaError` where they go in a
    circle."""
    graph = {name: {node.id for node in used if node.id in by_name} for name, used in uses.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = list(reversed(error.args[1]))
        first = min(cycle, key=list(by_name).index)
        round_trip = cycle[cycle.index(first) : -1] + cycle[: cycle.index(first)] + [first]
        path = " -> ".join(f"`{name}`" for name in round_trip)
        raise FormulaError(f"circular definition: {path}", by_name[first].name_span) from None
