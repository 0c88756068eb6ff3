"""A compiled formula as a pure function: log-weights of the operands in, log-probabilities out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language.execute import Execution, call_of, text_of
from arith.language.graph import Called, Node, Plain, describe
from arith.language.inputs import Inputs
from arith.language.registry import REGISTRY
from arith.language.values import Dist, Type
from grammar.tree import Span

Run = Callable[[Inputs, bool], tuple[Tensor, Tensor]]

PLAIN_KINDS = ("operand", "parameter", "constant", "position", "linear", "multiply", "divide", "indicator")
"""Nodes that bring no token back which an operand gives -inf: it shows in their values as -inf or NaN."""


def _outside(inputs: Inputs) -> list[Tensor]:
    """For each operand in which rows `[rows]` it gives some token -inf."""
    return [logits.amin(dim=-1) == -torch.inf for logits in inputs.operands.values()]


def name_row(row: int) -> str:
    """How an error names a row where the caller has no better words."""
    return f"row {row}"


@dataclass(frozen=True)
class Program:
    """The graph of a formula with the names it needs, in order of first use. Knows nothing of who calls
    it."""

    nodes: tuple[Node, ...]
    operands: tuple[str, ...]
    classifiers: tuple[str, ...]
    parameters: tuple[str, ...]
    positions: tuple[str, ...]

    def __str__(self) -> str:
        return describe(self.nodes)

    def log_probs(
        self, inputs: Inputs, place: Callable[[int], str] = name_row, exact: bool = False
    ) -> Tensor:
        """The normalised log-probabilities `[rows, vocab]` of the formula, -inf outside its support.

        Where the operands may hold -inf pass `exact`; without it that is found out, and the rows concerned
        are computed again. Raises `EvaluationError` with the place of the row and the part of the formula
        that has no value there: an empty support, a division by zero, a NaN.
        """
        log_probs, doubtful = self.run(inputs, True) if exact else self.attempt(inputs)
        rows = doubtful.nonzero().squeeze(-1)
        return self.settled(inputs, log_probs, rows, place) if len(rows) else log_probs

    def attempt(self, inputs: Inputs, run: Run | None = None) -> tuple[Tensor, Tensor]:
        """The same without a wait for the device: the log-probabilities, and in which rows `[rows]` they may
        be wrong and have to be `settled`. `run` is `self.run` in another form, such as a compiled one."""
        log_probs, doubtful = (run or self.run)(inputs, False)
        for outside in () if self._is_plain else _outside(inputs):
            doubtful = doubtful | outside
        return log_probs, doubtful

    def settled(
        self, inputs: Inputs, log_probs: Tensor, rows: Tensor, place: Callable[[int], str] = name_row
    ) -> Tensor:
        """`log_probs` with these of the rows computed again, exactly. Raises as `log_probs` does."""
        chosen = inputs.rows(rows)
        again, faulty = self.run(chosen, exact=True)
        if faulty.any():
            first = int(faulty.nonzero()[0])
            raise self._diagnosis(chosen.rows(torch.tensor([first])), place(int(rows[first])))
        return log_probs.index_copy(0, rows, again)

    def run(self, inputs: Inputs, exact: bool) -> tuple[Tensor, Tensor]:
        """The log-probabilities `[rows, vocab]`, and which rows `[rows]` are faulty: an undefined row is NaN
        all over."""
        execution = Execution(inputs, exact)
        result = execution.run(self.nodes, self._last_uses)
        assert isinstance(result, Dist)
        log_probs = result.log_probs()
        faulty = log_probs[:, 0].isnan()
        for fault in execution.faults:
            faulty = faulty | fault
        return log_probs, faulty

    @cached_property
    def _is_plain(self) -> bool:
        """Whether it is arithmetic alone, in which no token outside an operand's support is overlooked."""
        return all(
            node.kind in PLAIN_KINDS or (node.kind == "call" and call_of(node).operator == "normalize")
            for node in self.nodes
        )

    @cached_property
    def _last_uses(self) -> tuple[tuple[int, ...], ...]:
        """For each node the inputs that no later node uses, so that their memory can go."""
        last: dict[int, int] = {}
        for number, node in enumerate(self.nodes):
            last.update(dict.fromkeys(node.inputs, number))
        return tuple(
            tuple(i for i in dict.fromkeys(node.inputs) if last[i] == n) for n, node in enumerate(self.nodes)
        )

    def calls(self, *operators: str) -> tuple[dict[str, Plain], ...]:
        """The static arguments of each call of these operators."""
        return tuple(dict(call.statics) for call, _ in self.call_places(*operators))

    def call_places(self, *operators: str) -> tuple[tuple[Called, Span | None], ...]:
        """Each call of these operators, and where it stands in the formula's text."""
        return tuple(
            (node.payload, node.span)
            for node in self.nodes
            if isinstance(node.payload, Called) and node.payload.operator in operators
        )

    @property
    def is_closed(self) -> bool:
        """Whether its value follows from tensors alone: no operator asks for more of its inputs."""
        calls = [node.payload for node in self.nodes if isinstance(node.payload, Called)]
        return not any(REGISTRY[call.operator].takes_inputs for call in calls if call.operator in REGISTRY)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The operands whose own distributions it uses: all but those of which only an early exit or a total
        is asked."""
        asked = {call["operand"] for call in self.calls("layer", "log_likelihood")}
        own = {node.payload for node in self.nodes if node.kind == "operand"}
        return tuple(name for name in self.operands if name in own or name not in asked)

    @property
    def classifiers_that_guide(self) -> tuple[str, ...]:
        """The classifiers that `guide` uses."""
        guiding = {call["classifier"] for call in self.calls("guide")}
        return tuple(name for name in self.classifiers if name in guiding)

    @property
    def names_tokens_by_text(self) -> bool:
        """Whether it needs to know the texts of the vocabulary."""
        named = [call["tokens"] for call in self.calls("tokens", "except_tokens")]
        by_text = any(isinstance(one, str) for some in named if isinstance(some, tuple) for one in some)
        return by_text or bool(self.calls("matching"))

    def needed(self, values: Mapping[str, float]) -> frozenset[str]:
        """The operands and classifiers that matter at these parameter values: those not under a weight that
        is exactly 0."""
        fixed: set[int] = set()
        for number, node in enumerate(self.nodes):
            if node.kind in ("constant", "parameter") or (
                node.inputs
                and node.kind in ("linear", "multiply", "divide")
                and node.type is Type.SCALAR
                and fixed.issuperset(node.inputs)
            ):
                fixed.add(number)
        scalars = self._fixed_scalars(fixed, values)
        used = {len(self.nodes) - 1}
        for number in range(len(self.nodes) - 1, -1, -1):
            if number not in used:
                continue
            node = self.nodes[number]
            if node.kind == "linear":
                pairs = zip(node.inputs[::2], node.inputs[1::2], strict=True)
                used.update(i for pair in pairs if scalars.get(pair[0], math.nan) != 0 for i in pair)
            else:
                used.update(node.inputs)
        return frozenset(name for number in used for name in _names_in(self.nodes[number]))

    def _fixed_scalars(self, fixed: set[int], values: Mapping[str, float]) -> dict[int, float]:
        """The scalars that depend on constants and parameters alone."""
        if not fixed:
            return {}
        parameters = {
            name: torch.tensor([[float(value)]], dtype=torch.float64) for name, value in values.items()
        }
        execution = Execution(Inputs({}, parameters, {}, 1, 1, torch.device("cpu")), exact=True)
        found: dict[int, float] = {}
        for number in sorted(fixed):
            value = execution.compute(self.nodes[number])
            assert isinstance(value, Tensor)
            execution.values[number] = value
            found[number] = value.item()
        return found

    def _diagnosis(self, inputs: Inputs, place: str) -> EvaluationError:
        """Why one row has no value: the first part of the formula, from the inside out, that is undefined
        there."""
        execution = Execution(inputs, exact=True)
        for number, node in enumerate(self.nodes):
            execution.values[number] = execution.compute(node)
            if fault := execution.fault(number, node):
                message, hint = fault
                return EvaluationError(f"{message}, at {place}", node.span, hint)
        return EvaluationError(f"`{text_of(self.nodes[-1])}` has no value at {place}", self.nodes[-1].span)


def _names_in(node: Node) -> tuple[str, ...]:
    """The operand or classifier that a node asks."""
    if node.kind == "operand":
        return (str(node.payload),)
    statics = dict(node.payload.statics) if isinstance(node.payload, Called) else {}
    return tuple(str(statics[key]) for key in ("operand", "classifier") if key in statics)
