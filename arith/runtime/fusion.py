"""From the logits of lanes to the log-probabilities of rows: one evaluation of the formula for all rows of a
step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.language import Formula
from arith.language.inputs import Inputs
from arith.language.program import Program
from arith.language.vocabulary import refuse_beyond
from arith.operands.llm import LLM
from arith.runtime.answers import Answers, Facts, Leaf, Moment
from arith.runtime.result import FORMULA
from arith.runtime.row import Row


@dataclass(frozen=True, eq=False)
class Fused:
    """The step's distributions: `log_probs` of the formula, and the operands' logits, `[rows, vocab]`
    each."""

    log_probs: Tensor
    logits: Mapping[str, Tensor]

    def of_tokens(self, tokens: Tensor) -> dict[str, Tensor]:
        """The log-probabilities `[rows]` of one token a row, for `formula` and each operand."""
        chosen = tokens.unsqueeze(-1)
        found = {FORMULA: self.log_probs.gather(-1, chosen).squeeze(-1).float()}
        for name, logits in self.logits.items():
            found[name] = log_probs_of(logits, chosen)
        return found


def log_probs_of(logits: Tensor, chosen: Tensor) -> Tensor:
    """The log-probabilities `[rows]` of the tokens `chosen` `[rows, 1]`."""
    wide = logits.float()
    return wide.gather(-1, chosen).squeeze(-1) - wide.logsumexp(-1)


def asked_layers(program: Program) -> tuple[tuple[str, int], ...]:
    """The early exits that a program asks for, as operand and block."""
    calls = [(str(call["operand"]), call["k"]) for call in program.calls("layer")]
    return tuple((name, int(k)) for name, k in calls if isinstance(k, float))


def exits_of(program: Program, operands: Mapping[str, LLM]) -> dict[LLM, tuple[int, ...]]:
    """The early exits that a program asks of each operand."""
    found: dict[LLM, tuple[int, ...]] = {}
    for name, k in asked_layers(program):
        operand = operands[name]
        found[operand] = tuple(dict.fromkeys((*found.get(operand, ()), k)))
    return found


class Fusion:
    """Evaluates one formula over operands; `facts` answer what it asks besides their logits."""

    def __init__(
        self,
        formula: Formula,
        operands: Mapping[str, LLM],
        vocabulary: int,
        device: torch.device,
        facts: Facts,
    ):
        self.program = formula.program
        self.operands = operands
        self.vocabulary = vocabulary
        self.device = device
        self.facts = facts
        self.layers = asked_layers(self.program)
        self.exits = exits_of(self.program, operands)
        self.totalled = tuple(str(call["operand"]) for call in self.program.calls("log_likelihood"))

    def refuse_unknown_tokens(self) -> None:
        """Raises `FormulaError` for a token that the formula names and the vocabulary lacks."""
        for call in (*self.program.calls("tokens"), *self.program.calls("except_tokens")):
            named = call["tokens"]
            for token in named if isinstance(named, tuple) else ():
                number = self.facts.token(token) if isinstance(token, str) else token
                refuse_beyond(int(number), self.vocabulary)

    def fuse(self, rows: Sequence[Row], logits: Mapping[Leaf, tuple[Sequence[int], Tensor]]) -> Fused:
        """The distributions of the rows' next tokens. `logits` holds for each leaf which of the rows it ran
        for (an operand of weight 0 need not), and its logits there."""
        spread = {leaf: self._spread(chosen, part, len(rows)) for leaf, (chosen, part) in logits.items()}
        return self.evaluate([Moment(row, row.tokens, row.totals) for row in rows], spread)

    def evaluate(self, moments: Sequence[Moment], logits: Mapping[Leaf, Tensor]) -> Fused:
        """The formula at each of the moments, from logits `[moments, vocab]`; a leaf that didn't run is
        missing."""
        count = len(moments)

        def of(leaf: Leaf) -> Tensor:
            return logits[leaf].to(self.device) if leaf in logits else self._nothing(count)

        leaves = {name: of((operand, None)) for name, operand in self.operands.items()}
        layers = {(name, k): of((self.operands[name], k)) for name, k in self.layers}
        positions = {
            "t": [float(len(moment.tokens)) for moment in moments],
            "prompt_length": [float(moment.row.prompt_length) for moment in moments],
        }
        parameters = self.program.parameters
        inputs = Inputs(
            operands=leaves,
            parameters={name: self._column([m.row.values[name] for m in moments]) for name in parameters},
            positions={name: self._column(positions[name]) for name in self.program.positions},
            row_count=count,
            vocabulary=self.vocabulary,
            device=self.device,
            source=Answers(self.facts, moments, layers, self.device),
        )
        log_probs = self.program.log_probs(inputs, place=lambda number: moments[number].place)
        return Fused(log_probs, leaves)

    def _spread(self, chosen: Sequence[int], part: Tensor, count: int) -> Tensor:
        """The logits of some of the rows as logits of all, 0 elsewhere."""
        part = part.to(self.device)
        if len(chosen) == count:
            return part
        return self._nothing(count, part.dtype).index_copy(0, torch.tensor(chosen, device=self.device), part)

    def _nothing(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(count, self.vocabulary, dtype=dtype, device=self.device)

    def _column(self, values: Sequence[float]) -> Tensor:
        """`[rows, 1]`, float32."""
        return torch.tensor(values, dtype=torch.float32, device=self.device).unsqueeze(-1)
