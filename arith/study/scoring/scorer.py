"""What a scorer is."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arith.study.results import ResultRow

TOGETHER = 64
"""Texts that a model scores between two writes."""


@dataclass(frozen=True)
class Scored:
    """The score of one text, None where it could be given none; `details` are kept beside it.

    reference: the key of the row that it was compared with, where it was (`Scorer.reference`).
    """

    score: float | None
    details: Mapping[str, Any] | None = None
    reference: str | None = None


class Scorer(ABC):
    """Turns texts into numbers."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All that changes the numbers, as JSON can write it."""

    def reference(self, row: ResultRow) -> str | None:
        """The key of the row that this one is compared with, if it is: a score against another one doesn't
        count."""
        return None

    def prices(self, rows: Sequence[ResultRow]) -> Mapping[Hashable, float]:
        """What scoring these rows will cost at most, in the currency of the settings: for each thing that is
        paid, under a key that scorers have in common where they pay for it once. Where there is a price
        `arith score-sweep` goes on with `--yes` or a yes at the terminal."""
        return {}

    def check(self, rows: Sequence[ResultRow]) -> str | None:
        """What scoring these rows will take, where it is worth a word, before anything is spent on it.

        Raises `ArithError` for what can be refused beforehand.
        """
        return None

    @abstractmethod
    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        """The place in `rows` and the score of each, in any order, as they are done."""

    def summary(self) -> str | None:
        """What scoring has taken and met with so far, where it is worth a word."""
        return None
