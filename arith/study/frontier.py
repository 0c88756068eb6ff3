"""The Pareto frontier of two scores, and the area that it dominates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from arith.errors import OptionError

Pair = tuple[float, float]
"""Two scores of a point, both the better the larger."""


@dataclass(frozen=True)
class Goal:
    """A score, and whether it is to be large or small."""

    name: str
    small: bool = False

    @classmethod
    def of(cls, text: str) -> Self:
        """`helpful` is to be large, `-length` small. Raises `OptionError` where no name is left."""
        name = text.removeprefix("-")
        if not name or name.startswith("-"):
            raise OptionError(f"`{text}` names no score", "`helpful` is to be large, `-length` small")
        return cls(name, name != text)

    def gain(self, score: float) -> float:
        """The score as a number that is the better the larger."""
        return 0.0 - score if self.small else score  # -score would make -0 of 0


def frontier(pairs: Sequence[Pair]) -> list[int]:
    """The places of those that no other one dominates, by rising first score.

    A pair dominates another that it exceeds in one score and is at least equal to in the other; so of equal
    pairs all are on the frontier, or none.
    """
    order = sorted(range(len(pairs)), key=lambda place: pairs[place], reverse=True)
    found: list[int] = []
    for place in order:
        # What comes before is at least as good in the first score.
        if not found or pairs[place][1] > pairs[found[-1]][1] or pairs[place] == pairs[found[-1]]:
            found.append(place)
    return found[::-1]


def hypervolume(pairs: Sequence[Pair], reference: Pair) -> float:
    """The area of all that is better than the reference and dominated by one of the pairs, in units of the
    one score times units of the other. Zitzler and Thiele (1998), Multiobjective optimization using
    evolutionary algorithms.

    A pair that isn't better than the reference in both scores adds nothing.
    """
    better = [pair for pair in pairs if pair[0] > reference[0] and pair[1] > reference[1]]
    area, left = 0.0, reference[0]
    for place in frontier(better):
        first, second = better[place]
        area += (first - left) * (second - reference[1])
        left = first
    return area
