"""What a scorer is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arith.study.results import ResultRow


@dataclass(frozen=True)
class Scored:
    """The score of one text, None where it could be given none; `details` are kept beside it."""

    score: float | None
    details: Mapping[str, Any] | None = None


class Scorer(ABC):
    """Turns texts into numbers."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All that changes the numbers, as JSON can write it."""

    def price(self, rows: Sequence[ResultRow]) -> float | None:
        """What scoring these rows will cost at most, in the currency of the settings; None where nothing is
        paid. Where there is a price `arith score-sweep` goes on with `--yes` or a yes at the terminal."""
        return None

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
