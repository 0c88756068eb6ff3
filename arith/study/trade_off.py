"""The trade-off of two scores: series of points side by side, their frontiers, and the point to pick."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from arith.study.frontier import Goal, Pair, frontier, hypervolume
from arith.study.series import ScoredPoint, Series

if TYPE_CHECKING:
    from arith.study.preference import Preference


@dataclass(frozen=True)
class TradeOff:
    """Several series over two of their scores: the first is the sweep in question, the others stand beside
    it."""

    series: Sequence[Series]
    x: Goal
    y: Goal
    preference: "Preference | None" = None
    reference_scores: Mapping[str, float] | None = None

    @cached_property
    def reference(self) -> Pair:
        """From where areas are measured, as gains: the scores that are given, or else the worst mean of each
        of the two among all points."""
        if self.reference_scores is not None:
            x, y = (goal.gain(self.reference_scores[goal.name]) for goal in (self.x, self.y))
            return x, y
        pairs = self.all_pairs
        return min(x for x, _ in pairs), min(y for _, y in pairs)

    @property
    def reference_text(self) -> str:
        """The reference in words: `helpful=-0.5, length=120`."""
        gains = zip((self.x, self.y), self.reference, strict=True)
        named = ", ".join(f"{goal.name}={goal.gain(gain):.4g}" for goal, gain in gains)
        return named if self.reference_scores is not None else f"{named} (the worst means)"

    @cached_property
    def all_pairs(self) -> list[Pair]:
        """The gains of all points of all series, one series after the other."""
        return [pair for one in self.series for pair in one.pairs(self.x, self.y)]

    @property
    def areas(self) -> list[float]:
        """The hypervolume of each series, from the common reference."""
        return [hypervolume(one.pairs(self.x, self.y), self.reference) for one in self.series]

    @cached_property
    def joint(self) -> list[set[int]]:
        """The places of each series' points that no point of any series dominates."""
        best = set(frontier(self.all_pairs))
        found, start = [], 0
        for one in self.series:
            stop = start + len(one.points)
            found.append({place - start for place in best if start <= place < stop})
            start = stop
        return found

    def values(self, series: Series) -> list[float | None]:
        """What the preference gives each point; None without one, and for a point at which a score that it
        needs has no mean."""
        return [self._value(point) for point in series.points]

    def _value(self, point: ScoredPoint) -> float | None:
        means = {name: one.mean for name, one in point.scores.items() if not math.isnan(one.mean)}
        if self.preference is None or any(name not in means for name in self.preference.names):
            return None
        return self.preference.value(means)

    @cached_property
    def picked(self) -> int | None:
        """The place of the sweep's point with the largest value; of equal ones the first. None without a
        preference. Raises what `Preference.value` raises."""
        known = {place: one for place, one in enumerate(self.values(self.series[0])) if one is not None}
        return max(known, key=known.__getitem__, default=None)
