"""Intervals of means over rows, by the bootstrap over prompts.

Texts of one prompt are alike, so prompts are drawn and not rows: the percentile bootstrap over clusters
(Efron and Tibshirani 1993, chapter 13; Field and Welsh 2007, "Bootstrapping clustered data").
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
KEPT = 4  # draws: means over equally many prompts share theirs, and most points of a sweep have all prompts

Floats = NDArray[np.float64]
Counts = Floats  # whole ones; products of floats are faster than those of integers


@dataclass(frozen=True)
class Interval:
    """A figure, NaN where there is none, with the bounds of its interval; these are NaN where nothing can be
    drawn again: of fewer than two prompts."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "none"
        if math.isnan(self.low):
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


@lru_cache(maxsize=KEPT)
def draws(clusters: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> Counts:
    """How often each cluster is drawn in each resample `[resamples, clusters]`, not to be written to: equal
    for equal arguments."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(clusters, [1 / clusters] * clusters, size=resamples).astype(np.float64)
    counts.flags.writeable = False
    return counts


def numbered(clusters: Sequence[Hashable]) -> tuple[NDArray[np.intp], int]:
    """For each row the number of its cluster, in the order in which they first stand, and their count."""
    numbers: dict[Hashable, int] = {}
    places = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    return np.array(places, dtype=np.intp), len(numbers)


def resampled_means(values: Sequence[float], places: NDArray[np.intp], counts: Counts) -> Floats:
    """The mean of the values `[rows]` in each resample: `[resamples]`.

    `places` are the rows' clusters and `counts` `[resamples, clusters]` how often each is drawn. A value that
    is NaN is no value; a resample without one has the mean NaN.
    """
    column = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(column)
    clusters = counts.shape[1]
    sums = np.bincount(places[there], weights=column[there], minlength=clusters)
    sizes = np.bincount(places[there], minlength=clusters)
    drawn = counts @ sizes
    means: Floats = np.divide(counts @ sums, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)
    return means


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The mean of values `[rows]`, and the interval that holds `level` of the means of resampled clusters.

    `clusters` names the one that each row belongs to, its prompt. A value that is NaN is left out. Without
    any other the mean is NaN.
    """
    known = [
        (value, cluster) for value, cluster in zip(values, clusters, strict=True) if not math.isnan(value)
    ]
    if not known:
        return Interval(math.nan, math.nan, math.nan)
    left = [value for value, _ in known]
    places, count = numbered([cluster for _, cluster in known])
    return percentile_interval(
        math.fsum(left) / len(left),
        resampled_means(left, places, draws(count, resamples=resamples, seed=seed)) if count > 1 else None,
        level,
    )


def percentile_interval(figure: float, resampled: Floats | None, level: float = LEVEL) -> Interval:
    """A figure with the quantiles of what it is in resamples, NaN aside; None for those without resamples."""
    return Interval(figure, *_quantiles(resampled, level))


def basic_interval(figure: float, resampled: Floats | None, level: float = LEVEL) -> Interval:
    """The same for a figure that errs to one side, as the best of several does: the quantiles, mirrored.

    Resamples err against the figure as the figure does against the truth. Quantiles as they are would err
    twice; the basic bootstrap (Davison and Hinkley 1997, section 5.2) takes the one error off with the other.
    """
    low, high = _quantiles(resampled, level)
    return Interval(figure, 2 * figure - high, 2 * figure - low)


def _quantiles(resampled: Floats | None, level: float) -> tuple[float, float]:
    left = None if resampled is None else resampled[~np.isnan(resampled)]
    if left is None or not len(left):
        return math.nan, math.nan
    low, high = np.quantile(left, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
