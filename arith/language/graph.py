"""The compiled form of a formula: a list of nodes, each after those it uses, equal ones only once."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from arith.language.values import Type
from grammar.tree import Span

Plain: TypeAlias = float | bool | str | tuple[float | str, ...]
"""What an argument is that is known when the formula is compiled."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call: the operator, the names of the arguments that are nodes (a variadic one's once for each), and
    the static arguments."""

    operator: str
    arguments: tuple[str, ...]
    statics: tuple[tuple[str, Plain], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `kind` says how it is computed from its inputs, `payload` what the kind needs besides.

    | kind | payload | inputs |
    |---|---|---|
    | operand, parameter | the name | |
    | position | `t` or `prompt_length` | |
    | constant | the number | |
    | linear | | coefficient and term in turn: Σ coefficient·term |
    | multiply, divide | | two |
    | compare | the sign | two |
    | indicator | | a mask, read as a vec of zeros and ones |
    | call | a `Called` | the arguments that are nodes |
    | winner | `max` or `min` | the values, then for each value what it stands for |
    """

    kind: str
    payload: Hashable
    inputs: tuple[int, ...]
    type: Type
    span: Span | None = field(default=None, compare=False)


class GraphBuilder:
    """Collects nodes; adding an equal node again gives the one that is there."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}

    def add(
        self, kind: str, payload: Hashable, inputs: tuple[int, ...], type: Type, span: Span | None = None
    ) -> int:
        """The number of the node."""
        node = Node(kind, payload, inputs, type, span)
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return self._numbers[node]

    def finish(self, result: int) -> tuple[Node, ...]:
        """The nodes that the result uses, the result last."""
        used = {result}
        for number in range(result, -1, -1):
            if number in used:
                used.update(self.nodes[number].inputs)
        renumbered = {number: new for new, number in enumerate(sorted(used))}
        return tuple(
            Node(node.kind, node.payload, tuple(renumbered[i] for i in node.inputs), node.type, node.span)
            for number, node in enumerate(self.nodes)
            if number in used
        )


def describe(nodes: tuple[Node, ...]) -> str:
    """The graph as text, a line for each node that is more than a name or a number."""
    names: list[str] = []
    lines: list[str] = []
    for node in nodes:
        given = [names[i] for i in node.inputs]
        match node.kind:
            case "parameter" | "constant" | "position":
                names.append(_short(node.payload))
                continue
            case "operand":
                text = f"operand {node.payload}"
            case "linear":
                pairs = zip(given[::2], given[1::2], strict=True)
                text = "weighted sum " + (
                    " + ".join(f"{weight}·{term}" for weight, term in pairs) or "of nothing"
                )
            case "call":
                assert isinstance(node.payload, Called)
                labels = [*zip(node.payload.arguments, given, strict=True), *node.payload.statics]
                words = ", ".join(f"{label}={_short(value)}" for label, value in labels)
                text = f"{node.payload.operator}({words})"
            case "compare":
                text = f"{given[0]} {node.payload} {given[1]}"
            case "multiply" | "divide":
                text = f"{given[0]} {'*' if node.kind == 'multiply' else '/'} {given[1]}"
            case _:
                text = f"{node.kind}({', '.join(given)})"
        names.append(f"%{len(lines) + 1}")
        lines.append(f"{names[-1]:>4} = {text:<48} : {node.type}".rstrip())
    return "\n".join(lines)


def _short(payload: object) -> str:
    if isinstance(payload, tuple):
        return ", ".join(map(_short, payload))
    if isinstance(payload, bool):
        return "true" if payload else "false"
    return f"{payload:g}" if isinstance(payload, float) else str(payload)
