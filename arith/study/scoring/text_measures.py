"""Scores of a text by itself: how long it is, and how much of it is said again.

Words are what stands between white space. An n-gram is n words in a row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from arith.study.results import ResultRow
from arith.study.scoring.scorer import Scored, Scorer

REPEATED = 4  # words of an n-gram whose repetition counts


def distinct(text: str, n: int) -> float | None:
    """The share of a text's n-grams that are distinct; None without any. Li et al. (2016), arXiv 1510.03055,
    distinct-n, of one text instead of all together."""
    words = text.split()
    grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(text: str) -> float | None:
    """The share of a text's 4-grams that have stood in it before; None without any. Welleck et al. (2020),
    arXiv 1908.04319, seq-rep-4, over words."""
    share = distinct(text, REPEATED)
    return None if share is None else 1 - share


MEASURES: Mapping[str, Callable[[ResultRow], float | None]] = {
    "length": lambda row: float(row.tokens),
    "distinct_1": lambda row: distinct(row.text, 1),
    "distinct_2": lambda row: distinct(row.text, 2),
    "repetition": lambda row: repetition(row.text),
}
"""The measures by their names; `length` is in generated tokens."""


class TextMeasure(Scorer):
    """One of the `MEASURES`. A text that is too short to be measured has no score."""

    def __init__(self, name: str):
        self._name = name

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"kind": self._name}

    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        for place, row in enumerate(rows):
            yield place, Scored(MEASURES[self._name](row))
