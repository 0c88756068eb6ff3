"""From the logits of lanes to the log-probabilities of rows: one evaluation of the formula for all rows of a
step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.language import Formula
from arith.language.execute import Inputs
from arith.operands.llm import LLM
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
            wide = logits.float()
            found[name] = wide.gather(-1, chosen).squeeze(-1) - wide.logsumexp(-1)
        return found


class Fusion:
    """Evaluates one formula over operands."""

    def __init__(self, formula: Formula, operands: Mapping[str, LLM], vocabulary: int, device: torch.device):
        self.program = formula.program
        self.operands = operands
        self.vocabulary = vocabulary
        self.device = device

    def fuse(self, rows: Sequence[Row], logits: Mapping[LLM, tuple[Sequence[int], Tensor]]) -> Fused:
        """The distributions of the rows' next tokens. `logits` holds for each operand which of the rows it
        ran for (an operand of weight 0 need not), and its logits there."""
        by_operand = {
            operand: self._spread(chosen, part, len(rows)) for operand, (chosen, part) in logits.items()
        }
        leaves = {
            name: by_operand[operand] if operand in by_operand else self._nothing(len(rows))
            for name, operand in self.operands.items()
        }
        parameters = {
            name: self.column([row.values[name] for row in rows]) for name in self.program.parameters
        }
        step = self.column([float(len(row.tokens)) for row in rows])
        inputs = Inputs(leaves, parameters, step, len(rows), self.vocabulary)

        def place(number: int) -> str:
            return f"{rows[number].place}, step {len(rows[number].tokens)}"

        return Fused(self.program.log_probs(inputs, place), leaves)

    def _spread(self, chosen: Sequence[int], part: Tensor, count: int) -> Tensor:
        """The logits of some of the rows as logits of all, 0 elsewhere."""
        part = part.to(self.device)
        if len(chosen) == count:
            return part
        return self._nothing(count, part.dtype).index_copy(0, torch.tensor(chosen, device=self.device), part)

    def _nothing(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(count, self.vocabulary, dtype=dtype, device=self.device)

    def column(self, values: Sequence[float]) -> Tensor:
        """`[rows, 1]`, float32."""
        return torch.tensor(values, dtype=torch.float32, device=self.device).unsqueeze(-1)
