"""Fits against optima found by other means: bisection and a grid, over plain forwards of the models."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import Engine
from tests.runtime.reference import plain
from tests.trainers.fitting.conftest import PAIRS, TEXTS
from trainers.fitting import fit

END = 257

Build = Callable[..., Engine]


def forwards(operands: dict[str, Any], prompt: str, text: str) -> tuple[Tensor, Tensor, list[int]]:
    """What base and arm say at each token of a text and of the end behind it, float64; and these tokens."""
    model = plain(operands["base"].model)
    tokens = [*model.tokenizer(text, add_special_tokens=False).input_ids, END]
    ids = [*model.raw(prompt), *tokens[:-1]]
    base, arm = (
        plain(one.model, one.adapter).log_probs(ids, len(tokens)).double()
        for one in (operands["base"], operands["arm"])
    )
    return base, arm, tokens


def log_likelihood(base: Tensor, arm: Tensor, tokens: list[int], a: float) -> tuple[float, float]:
    """That of `base + a*arm`, summed, and its derivative by a: Σ arm[token] - E[arm]."""
    log_probs = (base + a * arm).log_softmax(-1)
    at = torch.arange(len(tokens)), torch.tensor(tokens)
    slope = arm[at].sum() - (log_probs.exp() * arm).sum()
    return log_probs[at].sum().item(), slope.item()


def bisected(slope: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0."""
    assert slope(low) > 0 > slope(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


@pytest.mark.parametrize("start", [0.0, 1.5, -2.0])
def test_a_likelihood_fit_is_where_the_slope_is_0(
    engine: Build, operands: dict[str, Any], start: float
) -> None:
    """The log-likelihood of a log-linear formula is concave, so its slope is 0 at one place. From a start of
    exactly 0, too: the operand whose weight is 0 runs all the same."""
    given = [forwards(operands, row["prompt"], row["completion"]) for row in TEXTS]
    count = sum(len(tokens) for _, _, tokens in given)

    def summed(a: float, part: int) -> float:
        return sum(log_likelihood(*one, a)[part] for one in given)

    best = bisected(lambda a: summed(a, 1), -10, 10)
    found = fit(engine("base + a*arm", a=start), TEXTS)
    assert found.values == {"a": pytest.approx(best, abs=1e-4)} and found.start == {"a": start}
    assert (found.texts, found.tokens) == (len(TEXTS), count)
    name = "log-likelihood of a token (nats)"
    assert found.before == {name: pytest.approx(summed(start, 0) / count, abs=1e-5)}
    assert found.after == {name: pytest.approx(summed(best, 0) / count, abs=1e-5)}
    assert found.after[name] > found.before[name]


def test_a_preference_fit_is_the_best_of_a_grid(engine: Build, operands: dict[str, Any]) -> None:
    sides = [
        [forwards(operands, row["prompt"], row[side]) for side in ("chosen", "rejected")] for row in PAIRS
    ]

    def margins(a: float) -> list[float]:
        return [log_likelihood(*good, a)[0] - log_likelihood(*bad, a)[0] for good, bad in sides]

    def loss(a: float) -> float:
        return sum(math.log1p(math.exp(-margin)) for margin in margins(a)) / len(PAIRS)

    grid = [number / 100 for number in range(-300, 301)]
    best = min(grid, key=loss)
    assert -3 < best < 3, "an optimum inside the grid"
    found = fit(engine("base + a*arm", a=best + 0.4), PAIRS)
    assert found.objective == "preference"
    assert found.values["a"] == pytest.approx(best, abs=0.011)
    assert found.after["-log sigmoid(margin) of a pair"] == pytest.approx(loss(found.values["a"]), abs=1e-4)
    assert found.after["-log sigmoid(margin) of a pair"] <= loss(best) + 1e-6
    for figures, a in ((found.before, found.start["a"]), (found.after, found.values["a"])):
        right = sum(margin > 0 for margin in margins(a))
        assert figures["pairs ranked right"] == right / len(PAIRS)


def test_several_parameters_end_where_no_step_is_better(engine: Build) -> None:
    made = engine("base + a*arm + b*other", a=0.0, b=0.0)
    found = fit(made, TEXTS)

    def mean(**params: float) -> float:
        rows = [row["prompt"] for row in TEXTS], [row["completion"] for row in TEXTS]
        return sum(one.total for one in made.score(*rows, params=params, end=True)) / found.tokens

    best = mean(**found.values)
    assert best == pytest.approx(found.after["log-likelihood of a token (nats)"], abs=1e-6)
    for name in found.values:
        for step in (-0.05, 0.05):
            assert mean(**{**found.values, name: found.values[name] + step}) < best
    again = fit(made, TEXTS, params=found.values)
    assert again.values == pytest.approx(found.values, abs=1e-4) and again.evaluations < found.evaluations


def test_parameters_that_are_not_fitted_keep_their_values(engine: Build) -> None:
    made = engine("base + a*arm + b*other", a=0.1, b=0.0)
    found = fit(made, TEXTS, names=["a"], params={"b": 0.3})
    alone = fit(engine("base + a*arm + 0.3*other", a=0.1), TEXTS)
    assert found.values == {"a": pytest.approx(alone.values["a"], abs=1e-6), "b": 0.3}
    assert found.fitted == ("a",) and found.after == pytest.approx(alone.after, abs=1e-6)
    assert "b" not in str(found).split()
