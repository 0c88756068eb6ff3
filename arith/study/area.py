"""How sure a hypervolume is: its interval, by the bootstrap over prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from arith.study.bootstrap import (
    Counts,
    Floats,
    Interval,
    basic_interval,
    draws,
    percentile_interval,
    resampled_means,
)
from arith.study.frontier import Goal, hypervolume
from arith.study.series import Series
from arith.study.trade_off import TradeOff


@dataclass(frozen=True)
class Area:
    """The hypervolume of a series, and by how much that of the first series is larger: both with 95%
    intervals.

    In each resample the same prompts are drawn for all series and the frontier is found anew, so the
    difference is that on equal prompts. Frontiers of noisy means reach too far, those of many points more
    than those of few: with few prompts a large sweep looks better than it is. Resamples reach too far in
    their turn, by which the intervals are set right (`basic_interval`); the figures themselves aren't.
    """

    label: str
    size: Interval
    lead: Interval


def areas_of(trade: TradeOff) -> list[Area]:
    """The area of each series, from the common reference."""
    prompts = sorted(set().union(*(one.prompts for one in trade.series)))
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    counts = draws(len(prompts)) if len(prompts) > 1 else None
    drawn = [None if counts is None else _resampled(trade, one, numbers, counts) for one in trade.series]
    found = []
    for series, area, resampled in zip(trade.series, trade.areas, drawn, strict=True):
        lead = None if resampled is None or drawn[0] is None else drawn[0] - resampled
        size = _size(area, resampled)
        found.append(Area(series.label, size, basic_interval(trade.areas[0] - area, lead)))
    return found


def _size(area: float, resampled: Floats | None) -> Interval:
    """An area with its interval, without what no area can be."""
    if not area:  # mirrored at 0, what resamples reach beyond it would be cut off: as if it were certain
        return percentile_interval(area, resampled)
    size = basic_interval(area, resampled)
    low, high = np.maximum([size.low, size.high], 0.0).tolist()  # NaN stays NaN
    return Interval(size.mean, low, high)


def _resampled(trade: TradeOff, series: Series, numbers: Mapping[str, int], counts: Counts) -> Floats:
    """The series' hypervolume in each resample, NaN where it has none: `[resamples]`."""
    gains = np.stack([_gains(series, goal, numbers, counts) for goal in (trade.x, trade.y)], axis=-1)
    # Where a point's prompts were not drawn it has no mean, and the series no area.
    whole = ~np.isnan(gains).any(axis=(1, 2))
    areas = np.full(len(gains), np.nan)
    areas[whole] = [
        hypervolume([(x, y) for x, y in sample], trade.reference) for sample in gains[whole].tolist()
    ]
    return areas


def _gains(series: Series, goal: Goal, numbers: Mapping[str, int], counts: Counts) -> Floats:
    """The mean gain of each point in each resample: `[resamples, points]`."""
    means = []
    for point in series.points:
        places = np.array([numbers[prompt] for prompt in point.prompts], dtype=np.intp)
        means.append(resampled_means(point.row_scores[goal.name], places, counts))
    columns = np.stack(means, axis=-1)
    return -columns if goal.small else columns
