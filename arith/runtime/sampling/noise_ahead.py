"""The noise of rows at their steps, made for some of their next steps too."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.runtime.sampling.noise import block_noise, row_words

MOST_STEPS = 16
MOST_NOISE = 64  # rows times steps


@dataclass(frozen=True, eq=False)
class RowNoise:
    """What the numbers of rows at a step follow from: their `words` (see `row_words`), and the first arrival
    in each block with its place, `[rows, blocks]` (see `block_noise`)."""

    words: Tensor
    arrivals: Tensor
    leaders: Tensor


class NoiseAhead:
    """Makes the noise of rows, and where the same rows come again, each one step further, that of some steps
    at once. Between two steps whole models are read, and code that is called once a step has left the caches:
    for few rows that takes longer than to compute."""

    def __init__(self) -> None:
        self._codes: Tensor | None = None
        self._keys: list[int] = []
        self._steps: list[int] = []
        self._times = 0  # that these rows have come again
        self._made: deque[RowNoise] = deque()

    def __call__(self, codes: Tensor, keys: Sequence[int], steps: Sequence[int]) -> RowNoise:
        """That of the rows with these keys at these steps; `codes` are those of all tokens."""
        keys, steps = list(keys), list(steps)
        again = codes is self._codes and keys == self._keys and steps == [step + 1 for step in self._steps]
        self._times = self._times + 1 if again else 0
        if not again or not self._made:
            # As many more as there have been, so that at most half of what is made is of no use.
            count = max(1, min(self._times, MOST_STEPS, MOST_NOISE // len(keys)))
            self._made = deque(_made(codes, keys, steps, count))
        self._codes, self._keys, self._steps = codes, keys, steps
        return self._made.popleft()


def _made(codes: Tensor, keys: list[int], steps: list[int], count: int) -> list[RowNoise]:
    """The noise at each of so many steps, these first."""
    words = row_words(keys * count, [step + ahead for ahead in range(count) for step in steps], codes.device)
    arrivals, leaders = block_noise(codes, words)
    size = len(keys)
    tensors = torch.split(words, size, dim=2), torch.split(arrivals, size), torch.split(leaders, size)
    return [RowNoise(*part) for part in zip(*tensors, strict=True)]
