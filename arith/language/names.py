"""What the names of a formula stand for: definitions, operands or parameters."""

from collections.abc import Iterator, Mapping
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

    `free` maps each name that is no definition to the places of its use, in order of first use; `superseded`
    are those of them that only say what drafts, and take no part in what the formula means; `positions` are
    those of `POSITIONS` that are used.
    """

    definitions: Mapping[str, Definition]
    free: Mapping[str, tuple[Name, ...]]
    superseded: frozenset[str]
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
    uses = {name: names_in(definition.value) for name, definition in by_name.items()}
    order = ordered(by_name, uses)
    needed = set()
    pending = [node.id for node in names_in(document.result)]
    while pending:
        name = pending.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            pending.extend(node.id for node in uses[name])
    free: dict[str, tuple[Name, ...]] = {}
    positions: dict[str, None] = {}
    bodies = [definition.value for definition in document.definitions if definition.name in needed]
    for node in [node for body in [*bodies, document.result] for node in names_in(body)]:
        if node.id in POSITIONS:
            positions[node.id] = None
        elif node.id in TRUTHS:
            continue
        elif node.id in REGISTRY:
            example = REGISTRY[node.id].example
            raise FormulaError(f"`{node.id}` is an operator", node.span, f"call it, as in `{example}`")
        elif node.id in RESERVED:
            refuse_reserved(node.id, node.span)
        elif node.id not in by_name:
            free[node.id] = (*free.get(node.id, ()), node)
    definitions = {name: by_name[name] for name in order if name in needed}
    superseded = frozenset(free) - _meant(document.result, definitions)
    return Names(definitions, free, superseded, tuple(positions))


def _meant(result: Expression, by_name: Mapping[str, Definition]) -> set[str]:
    """The names that a result uses, but for those that stand only where `supersede` says what drafts."""
    found: set[str] = set()
    pending = [result]
    while pending:
        node = pending.pop()
        if isinstance(node, Name):
            if node.id in by_name and node.id not in found:
                pending.append(by_name[node.id].value)
            found.add(node.id)
        elif isinstance(node, Call) and node.function == "supersede":
            _small, (_argument, large) = find(node).bind(node)
            pending.append(large)
        else:
            pending.extend(children(node))
    return found


def calls_in(document: Document) -> list[Call]:
    """Every call of a formula, in the order in which they are written."""
    bodies = [*(definition.value for definition in document.definitions), document.result]
    return [node for body in bodies for node in walk(body) if isinstance(node, Call)]


def supersedes(document: Document) -> bool:
    """Whether a formula itself says what drafts for it."""
    return any(call.function == "supersede" for call in calls_in(document))


def refuse_reserved(name: str, span: Span | None = None) -> None:
    """Raises `FormulaError` where a name is an operator's or one of `RESERVED`."""
    if name in RESERVED:
        raise FormulaError(f"`{name}` is reserved: it is {RESERVED[name]}", span, "choose another name")
    if name in REGISTRY:
        raise FormulaError(f"`{name}` is reserved: it is an operator", span, "choose another name")


def names_in(expression: Expression) -> list[Name]:
    """Every use of a name inside the expression, in the order in which they are written."""
    return [node for node in walk(expression) if isinstance(node, Name)]


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
