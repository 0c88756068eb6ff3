"""The choice of rows' next tokens: processors, random numbers, the race."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Moment
from arith.runtime.options import Sampling
from arith.runtime.row import Row
from arith.runtime.sampling.processors import Processors
from arith.runtime.sampling.sampler import Race


@dataclass(frozen=True, eq=False)
class Chosen:
    """A token `[rows]` for each moment, the scores `[rows, vocab]` that it was chosen from, and which moments
    `[rows]` are lost: bans left them no token, and theirs mean nothing."""

    tokens: Tensor
    scores: Tensor
    lost: Tensor


class TokenChoice:
    """Chooses as the options of a call say. The random numbers of a row at a step are its own, whoever asks:
    a draft that agrees with the formula's distribution chooses the very token that the formula would."""

    def __init__(self, sampling: Sampling, processors: Processors, first_operand: LLM, race: Race):
        self._sampling = sampling
        self._race = race
        self._processors = processors
        self._first_operand = first_operand

    @property
    def asks_the_caller(self) -> bool:
        """Whether a caller's own processors take part."""
        return self._processors.given

    def history(self, row: Row, tokens: Sequence[int]) -> list[int]:
        """What processors and criteria see as `input_ids`."""
        return [*row.prompt_ids[self._first_operand], *tokens]

    def __call__(self, moments: Sequence[Moment], log_probs: Tensor) -> Chosen:
        histories: list[list[int]] = [[] for _ in moments]
        if self._processors.need_histories:
            histories = [self.history(moment.row, moment.tokens) for moment in moments]
        banned = {
            number: sorted(tokens)
            for number, moment in enumerate(moments)
            if (tokens := moment.row.bans.get(len(moment.tokens)))
        }
        scores = self._processors(log_probs, histories, banned)
        lost = scores.new_zeros(len(moments), dtype=torch.bool)
        if banned:
            lost = ~scores.amax(dim=-1).isfinite()
        if self._sampling.greedy:
            return Chosen(scores.argmax(dim=-1), scores, lost)
        # A row that went back draws with other numbers: its old ones led to what is forbidden.
        steps = [len(moment.tokens) + (moment.row.rewinds << 32) for moment in moments]
        return Chosen(self._race(scores, [moment.row.key for moment in moments], steps), scores, lost)
