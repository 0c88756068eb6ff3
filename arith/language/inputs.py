"""What one evaluation of a program is given."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


class Source(Protocol):
    """Whoever runs a program, asked for what only it knows of the rows at hand.

    Names are those of the formula's operands and classifiers.
    """

    def layer(self, operand: str, k: int) -> Tensor:
        """The logits `[rows, vocab]` that the operand's output layer gives after its block `k`."""
        ...

    def log_likelihood(self, operand: str) -> Tensor:
        """The operand's log-probability `[rows, 1]` of the tokens that the row has so far, in nats."""
        ...

    def strength(self, classifier: str, *, prompt: bool) -> Tensor:
        """The classifier's value `[rows, 1]` for the text so far, or for the prompt alone."""
        ...

    def guide(self, classifier: str, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """For candidate tokens `[rows, k]` the values `[rows, k]` of the text with each of them, and
        `[rows, 1]` without: log-probabilities of a label, or rewards."""
        ...

    def matching(self, pattern: str) -> Tensor:
        """The tokens `[1, vocab]` whose whole text matches a regular expression."""
        ...

    def token(self, text: str) -> int:
        """The one token with this text."""
        ...

    def rows(self, chosen: Tensor) -> "Source":
        """The source for some of the rows alone, `chosen` their numbers."""
        ...


@dataclass(frozen=True, eq=False)
class Inputs:
    """Log-weights `[rows, vocab]` of each operand, `[rows, 1]` for each parameter and for each of the
    positions `t` and `prompt_length`; `source` answers operators that need more, and is None where the
    program has none of these."""

    operands: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    positions: Mapping[str, Tensor]
    row_count: int
    vocabulary: int
    device: torch.device
    source: Source | None = None

    @property
    def asked(self) -> Source:
        """The source, for an operator that needs one."""
        assert self.source is not None, "the program was given no source for the operators that need one"
        return self.source

    @property
    def dtype(self) -> torch.dtype:
        """What the program computes in: float32, or the operands' type where that is wider."""
        like = next(iter(self.operands.values()), None)
        return torch.float32 if like is None else torch.promote_types(like.dtype, torch.float32)

    def rows(self, chosen: Tensor) -> "Inputs":
        """The inputs of some rows alone."""

        def pick(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: tensor.index_select(0, chosen.to(tensor.device)) for name, tensor in tensors.items()
            }

        return replace(
            self,
            operands=pick(self.operands),
            parameters=pick(self.parameters),
            positions=pick(self.positions),
            row_count=len(chosen),
            source=None if self.source is None else self.source.rows(chosen),
        )
