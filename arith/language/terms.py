"""The sum that a formula is: its terms, and what each adds to the log-weight of every token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.language.execute import Execution, call_of, text_of
from arith.language.graph import Node
from arith.language.inputs import Inputs
from arith.language.program import Program
from arith.language.values import Dist, Type

KEEP_LOG_WEIGHTS = ("normalize", "top_k", "top_p", "typical", "min_p", "epsilon", "within")
"""Operators whose log-weights are those of their argument `f`, up to a constant, wherever they leave any."""


@dataclass(frozen=True)
class Term:
    """One term of the sum.

    name: the operand's name, or the text of what the term is.
    operand: the operand that it is, None for anything else, such as `max(a, b)`.
    weight, value: the numbers of their nodes; a weight of None is 1.
    """

    name: str
    operand: str | None
    weight: int | None
    value: int


@dataclass(frozen=True, eq=False)
class TermValue:
    """A term at some rows: its weights `[rows, 1]` and its values `[rows, vocab]`.

    The values of a dist are log-probabilities, -inf outside its support; those of a vec are as they are.
    """

    weights: Tensor
    values: Tensor

    @property
    def contributions(self) -> Tensor:
        """What it adds to the log-weight of every token, `[rows, vocab]` in nats: 0 where its weight is 0,
        and -inf outside its support, whatever the sign of its weight."""
        outside = self.values.isneginf()
        products = self.weights * self.values.masked_fill(outside, 0.0)
        return torch.where(self.weights == 0, 0.0, products.masked_fill(outside, -torch.inf))


def terms_of(program: Program) -> tuple[Term, ...]:
    """The terms of the sum that a formula is, none where it is no sum, as `max(a, b)` isn't.

    Operators that only restrict the sum to some tokens, or normalise it, are looked through. The formula's
    log-probability of a token is then what its terms contribute to it, less one number for all tokens.
    """
    nodes = program.nodes
    number = _kept(nodes, len(nodes) - 1)
    root = nodes[number]
    if root.kind == "operand":
        return (Term(str(root.payload), str(root.payload), None, number),)
    if root.kind != "linear":
        return ()
    found: list[Term] = []
    for weight, value in zip(root.inputs[::2], root.inputs[1::2], strict=True):
        if nodes[value].type is Type.SCALAR:  # one number for all tokens
            continue
        inner = nodes[_unnormalized(nodes, value)]
        operand = str(inner.payload) if inner.kind == "operand" else None
        found.append(Term(_free_name(operand or _text(nodes, value), found), operand, weight, value))
    return tuple(found)


def term_values(program: Program, terms: Sequence[Term], inputs: Inputs) -> list[TermValue]:
    """The value of each term. The formula has to have a value at all rows: nothing is checked here."""
    execution = Execution(inputs, exact=True)
    for number in _used(program.nodes, terms):
        execution.values[number] = execution.compute(program.nodes[number])
    return [_value(execution, term) for term in terms]


def _value(execution: Execution, term: Term) -> TermValue:
    shape = (execution.inputs.row_count, 1)
    weights: Tensor | Dist = torch.ones(shape, dtype=execution.dtype, device=execution.device)
    if term.weight is not None:
        weights = execution.values[term.weight]
    assert isinstance(weights, Tensor)
    value = execution.values[term.value]
    return TermValue(weights.expand(shape), value.log_probs() if isinstance(value, Dist) else value)


def _kept(nodes: Sequence[Node], number: int) -> int:
    """The node whose log-weights those of a node are, up to a constant and the support."""
    node = nodes[number]
    if node.kind != "call" or call_of(node).operator not in KEEP_LOG_WEIGHTS:
        return number
    return _kept(nodes, node.inputs[call_of(node).arguments.index("f")])


def _unnormalized(nodes: Sequence[Node], number: int) -> int:
    node = nodes[number]
    is_normalized = node.kind == "call" and call_of(node).operator == "normalize"
    return node.inputs[0] if is_normalized else number


def _text(nodes: Sequence[Node], number: int) -> str:
    node = nodes[number]
    return text_of(nodes[node.inputs[0]] if node.kind == "indicator" else node)


def _free_name(name: str, taken: Sequence[Term]) -> str:
    """The name, with a number behind it where a term has it already."""
    same = sum(1 for term in taken if term.name == name or term.name.startswith(f"{name} #"))
    return f"{name} #{same + 1}" if same else name


def _used(nodes: Sequence[Node], terms: Sequence[Term]) -> list[int]:
    """The nodes that the terms are computed from, each after those it uses."""
    used = {number for term in terms for number in (term.weight, term.value) if number is not None}
    for number in range(len(nodes) - 1, -1, -1):
        if number in used:
            used.update(nodes[number].inputs)
    return sorted(used)
