"""Win rates as they would be if both sides wrote answers of one length.

Source: Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv 2404.04475. There a logistic regression has
three terms: who wrote the answer, tanh of the standardised difference in length, and how hard the instruction
is, the last known from other models' annotations; it is fitted with an L1 penalty chosen by cross-validation.
Here the first two terms are left, and the weight of the length has a normal prior of variance 1.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from arith.study.bootstrap import Interval, draws, numbered, percentile_interval

Floats = NDArray[np.float64]
STEPS = 100
PRECISION = 1e-10


def length_controlled(
    preferences: Sequence[float], lengths: Sequence[tuple[int, int]], clusters: Sequence[Hashable]
) -> Interval:
    """The win rate at a difference in length of 0, with its 95% interval by the bootstrap over clusters.

    preferences: `[rows]`, 1 where the first side wins, 0.5 for a tie, 0 where it loses.
    lengths: `[rows]`, of the first and of the second answer in characters.
    clusters: `[rows]`, the prompt of each.
    """
    wins = np.asarray(preferences, dtype=np.float64)
    terms = length_terms(lengths)
    places, count = numbered(clusters)
    resampled = None
    if count > 1:
        resampled = np.array([_rate(wins, terms, drawn[places]) for drawn in draws(count)])
    return percentile_interval(_rate(wins, terms, np.ones(len(wins))), resampled)


def length_terms(lengths: Sequence[tuple[int, int]]) -> Floats:
    """tanh of the differences in length over their standard deviation `[rows]`; 0 where all are alike."""
    sides = np.asarray(lengths, dtype=np.float64)
    differences = sides[:, 0] - sides[:, 1]
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return np.tanh(differences / spread) if spread > 0 else np.zeros(len(differences))


def _rate(wins: Floats, terms: Floats, weights: Floats) -> float:
    """The rate at a term of 0, of rows that count `weights` times."""
    chosen = wins[weights > 0]
    if (chosen == chosen[0]).all() and chosen[0] in (0, 1):
        return float(chosen[0])  # the regression has no finite answer
    return float(_logistic(fitted(wins, terms, weights)[0]))


def fitted(wins: Floats, terms: Floats, weights: Floats) -> Floats:
    """`[2]` a and b that maximise `sum w (y log p + (1 - y) log(1 - p)) - b^2/2` for `p = logistic(a + b x)`.

    By Newton's method, with steps that are halved until they gain.
    """
    matrix = np.stack([np.ones_like(terms), terms], axis=1)
    prior = np.array([0.0, 1.0])
    found = np.zeros(2)
    loss = _loss(found, matrix, wins, weights)
    for _ in range(STEPS):
        chance = _logistic(matrix @ found)
        gradient = matrix.T @ (weights * (chance - wins)) + prior * found
        curvature = (matrix.T * (weights * chance * (1 - chance))) @ matrix + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        while (following := _loss(found - step, matrix, wins, weights)) > loss and abs(
            step
        ).max() > PRECISION:
            step = step / 2
        if abs(step).max() <= PRECISION:
            break
        found, loss = found - step, following
    return found


def _loss(found: Floats, matrix: Floats, wins: Floats, weights: Floats) -> float:
    margins = matrix @ found
    return float(weights @ (np.logaddexp(0, margins) - wins * margins) + found[1] ** 2 / 2)


def _logistic(margins: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -margins))
