"""The choice of rows' next tokens: processors, random numbers, the race."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Moment
from arith.runtime.noise import exponential_noise
from arith.runtime.options import Sampling
from arith.runtime.processors import Processors
from arith.runtime.row import Row
from arith.runtime.sampler import choose


@dataclass(frozen=True, eq=False)
class Chosen:
    """A token `[rows]` for each moment, and the scores `[rows, vocab]` that it was chosen from."""

    tokens: Tensor
    scores: Tensor


class TokenChoice:
    """Chooses as the options of a call say. The random numbers of a row at a step are its own, whoever asks:
    a draft that agrees with the formula's distribution chooses the very token that the formula would."""

    def __init__(self, sampling: Sampling, processors: Processors, first_operand: LLM):
        self._sampling = sampling
        self._processors = processors
        self._first_operand = first_operand

    def history(self, row: Row, tokens: Sequence[int]) -> list[int]:
        """What processors and criteria see as `input_ids`."""
        return [*row.prompt_ids[self._first_operand], *tokens]

    def __call__(self, moments: Sequence[Moment], log_probs: Tensor) -> Chosen:
        histories: list[list[int]] = [[] for _ in moments]
        if self._processors.need_histories:
            histories = [self.history(moment.row, moment.tokens) for moment in moments]
        scores = self._processors(log_probs, histories)
        noise = None
        if not self._sampling.greedy:
            steps = [len(moment.tokens) for moment in moments]
            noise = exponential_noise(
                [moment.row.key for moment in moments], steps, scores.shape[-1], scores.device
            )
        return Chosen(choose(scores, noise), scores)
