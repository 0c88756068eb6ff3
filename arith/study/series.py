"""The points of a sweep with their mean scores, as one series of a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arith.point_text import exact_text, point_text
from arith.study.bootstrap import Interval
from arith.study.frontier import Goal, Pair, frontier


@dataclass(frozen=True)
class Answer:
    """A prompt, and a text that was written for it."""

    prompt: str
    text: str


@dataclass(frozen=True)
class ScoredPoint:
    """A point of a sweep.

    values: of what is swept.
    scores: the mean of each score over the point's rows, with its 95% interval.
    prompts: the key of each row's prompt, `[rows]`.
    row_scores: each score of each row, `[rows]`, NaN where the scorer gave none.
    answers: some of the texts.
    """

    values: Mapping[str, float | str]
    scores: Mapping[str, Interval]
    prompts: Sequence[str]
    row_scores: Mapping[str, Sequence[float]]
    answers: Sequence[Answer]

    def __str__(self) -> str:
        """Its values; of one that only says which formula, that formula's name."""
        return self._named or point_text(self.values)

    @property
    def exact(self) -> str:
        """The same with all digits, by which the point can be named."""
        return self._named or exact_text(self.values)

    @property
    def _named(self) -> str | None:
        if set(self.values) == {"formula"}:
            return str(self.values["formula"])
        return None if self.values else "the only point"


@dataclass(frozen=True)
class Series:
    """The points of one folder, under the name that they have in a picture.

    shown: the keys of the prompts that all points' answers are for.
    notes: what is to be said of the rows and scores.
    scorers: by what settings each score was made; equal where they are equal.
    """

    label: str
    points: Sequence[ScoredPoint]
    shown: Sequence[str]
    notes: Sequence[str]
    scorers: Mapping[str, str]

    @property
    def prompts(self) -> frozenset[str]:
        """The keys of the prompts that the means are over."""
        return frozenset(prompt for point in self.points for prompt in point.prompts)

    def pairs(self, x: Goal, y: Goal) -> list[Pair]:
        """Both scores of each point, the larger the better."""
        return [
            (x.gain(point.scores[x.name].mean), y.gain(point.scores[y.name].mean)) for point in self.points
        ]

    def frontier(self, x: Goal, y: Goal) -> list[int]:
        """The places of the points that no other one of the series dominates, by rising gain in x."""
        return frontier(self.pairs(x, y))
