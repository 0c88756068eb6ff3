"""Intervals by the bootstrap over prompts: against draws by hand, and against what is known of means."""

import math
import random

import numpy as np
import pytest

from arith.study.bootstrap import draws, mean_interval, numbered, resampled_means


def test_intervals_are_the_quantiles_of_means_drawn_by_hand() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 3.0, 3.0, 9.0, 0.0]
    prompts = ["a", "a", "b", "c", "c", "c", "d", "e", "f", "f"]
    found = mean_interval(values, prompts, resamples=20_000)
    rng = random.Random(1)
    names = sorted(set(prompts))
    means = []
    for _ in range(20_000):
        drawn = rng.choices(names, k=len(names))
        pooled = [value for name in drawn for value, own in zip(values, prompts, strict=True) if own == name]
        means.append(sum(pooled) / len(pooled))
    means.sort()
    assert found.mean == pytest.approx(4.2)
    assert found.low == pytest.approx(means[500], abs=0.1)
    assert found.high == pytest.approx(means[19_499], abs=0.1)


def test_the_interval_of_many_prompts_is_that_of_the_normal_distribution() -> None:
    values = list(np.random.default_rng(2).normal(3.0, 2.0, size=4000))
    found = mean_interval(values, range(4000))
    half = 1.96 * float(np.std(values)) / math.sqrt(4000)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)


def test_more_equal_texts_of_the_same_prompts_tell_nothing_more() -> None:
    values, prompts = [1.0, 2.0, 5.0, 3.0], ["a", "b", "c", "d"]
    assert mean_interval(values * 10, prompts * 10) == mean_interval(values, prompts)


def test_about_95_of_100_intervals_hold_the_mean_though_texts_of_a_prompt_are_alike() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        prompts = np.repeat(np.arange(40), 5)
        values = rng.normal(size=40)[prompts] + 0.3 * rng.normal(size=200)
        found = mean_interval(list(values), list(prompts), resamples=400)
        inside += found.low <= 0 <= found.high
    assert 0.90 <= inside / 300 <= 0.98


def test_a_row_without_a_value_is_left_out() -> None:
    values = [1.0, math.nan, 2.0, 6.0, math.nan]
    assert mean_interval(values, list("abcde")) == mean_interval([1.0, 2.0, 6.0], list("acd"))
    nothing = mean_interval([math.nan], ["a"])
    assert math.isnan(nothing.mean) and math.isnan(nothing.low)


def test_one_prompt_has_no_interval() -> None:
    found = mean_interval([1.0, 3.0], ["a", "a"])
    assert found.mean == 2.0 and math.isnan(found.low) and math.isnan(found.high)
    assert str(found) == "2"


def test_draws_are_the_same_for_the_same_seed_and_draw_each_time_as_many_prompts_as_there_are() -> None:
    counts = draws(7, resamples=50, seed=4)
    assert counts.shape == (50, 7) and (counts.sum(axis=1) == 7).all()
    assert (counts == draws(7, resamples=50, seed=4)).all()
    assert (counts != draws(7, resamples=50, seed=5)).any()


def test_means_over_equally_many_prompts_share_draws_that_nobody_can_change() -> None:
    counts = draws(9, resamples=50, seed=4)
    assert draws(9, resamples=50, seed=4) is counts
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 9


def test_resamples_weigh_prompts_by_their_rows() -> None:
    places, count = numbered(["x", "y", "y"])
    counts = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert count == 2
    assert resampled_means([1.0, 4.0, 6.0], places, counts).tolist() == [1.0, 5.0, pytest.approx(11 / 3)]
