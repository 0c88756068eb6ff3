"""Series read from disk side by side: means, frontiers, areas and what is picked."""

import functools
import itertools
import math
import random
import statistics
from pathlib import Path

import numpy as np
import pytest

from arith.errors import OptionError, SpecError
from arith.study.area import areas_of
from arith.study.bootstrap import Interval, draws
from arith.study.frontier import Goal
from arith.study.preference import Preference
from arith.study.series import ScoredPoint, Series
from arith.study.series_reading import read_series
from arith.study.trade_off import TradeOff
from grammar.errors import FormulaError
from tests.study.swept import write_results, write_scores

GOOD, SHORT = Goal("good"), Goal("length", small=True)


def series(path: Path, means: dict[float, tuple[float, float]], *, noise: float = 0.0) -> Series:
    """A point `w` for each of the means, over 20 prompts; a prompt adds the same to all points."""
    write_results(path, [{"w": w} for w in means], [f"p{n}" for n in range(20)])
    shifts = [noise * (n % 5 - 2) for n in range(20)]
    for place, name in enumerate(("good", "length")):
        write_scores(path, name, [pair[place] + shift for shift in shifts for pair in means.values()])
    return read_series(path.name, path, {"good", "length"})


def noisy_series(gains: "np.ndarray[tuple[int, int, int], np.dtype[np.float64]]") -> Series:
    """Points with these gains of each prompt `[prompts, points, 2]`, in `GOOD` and in `SHORT`."""
    prompts = [str(number) for number in range(len(gains))]
    points = []
    for place in range(gains.shape[1]):
        rows = {"good": gains[:, place, 0].tolist(), "length": (-gains[:, place, 1]).tolist()}
        means = {
            name: Interval(statistics.fmean(values), math.nan, math.nan) for name, values in rows.items()
        }
        points.append(ScoredPoint({"w": place}, means, prompts, rows, []))
    return Series("noisy", points, [], [], {})


def test_means_are_those_of_a_points_rows(tmp_path: Path) -> None:
    points = [{"h": 0.5, "s": 1.0}, {"h": 0.0, "s": 2.0}]
    write_results(tmp_path, points, ["a", "b", "c"], samples=2)
    generator = random.Random(0)
    scores = [generator.random() for _ in range(12)]
    write_scores(tmp_path, "good", scores)
    found = read_series("x", tmp_path, {"good"})
    assert [str(point) for point in found.points] == ["h=0, s=2", "h=0.5, s=1"]  # in order of values
    expected = [
        [scores[n] for n in range(12) if n % 4 in (2, 3)],
        [scores[n] for n in range(12) if n % 4 < 2],
    ]
    for point, values in zip(found.points, expected, strict=True):
        interval = point.scores["good"]
        assert interval.mean == pytest.approx(statistics.fmean(values))
        assert interval.low <= interval.mean <= interval.high
    assert found.notes == [] and len(found.prompts) == 3


def test_the_order_of_the_rows_on_disk_changes_no_number(tmp_path: Path) -> None:
    first = series(tmp_path / "a", {0: (1, 2), 1: (3, 4)}, noise=0.1)
    lines = (tmp_path / "a" / "results.jsonl").read_text().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    (tmp_path / "a" / "results.jsonl").write_text("".join(lines))
    assert read_series("a", tmp_path / "a", {"good", "length"}) == first


def test_a_score_that_is_needed_must_be_whole_and_another_is_left_out(tmp_path: Path) -> None:
    write_results(tmp_path, [{"h": 0.0}, {"h": 1.0}], ["a", "b"])
    write_scores(tmp_path, "good", [1, 2, 3, 4])
    write_scores(tmp_path, "partial", [1, 2, 3])
    found = read_series("x", tmp_path, {"good"})
    assert set(found.points[0].scores) == {"good"}
    assert len(found.notes) == 1 and "partial" in found.notes[0] and "1 of 4" in found.notes[0]
    with pytest.raises(SpecError, match=r"(?s)1 of 4 rows has no score.*h=1"):
        read_series("x", tmp_path, {"partial"})


def test_rows_without_a_value_are_told_and_a_point_of_such_rows_is_refused(tmp_path: Path) -> None:
    write_results(tmp_path, [{"h": 0.0}, {"h": 1.0}], ["a", "b"])
    write_scores(tmp_path, "good", [1, 2, None, 4])
    found = read_series("x", tmp_path, {"good"})
    assert found.points[0].scores["good"].mean == 1
    assert "1 of 4 rows have no value of `good`" in found.notes[0]
    write_scores(tmp_path, "good", [None, 2, None, 4])
    with pytest.raises(SpecError, match=r"no row at h=0 has a value of `good`"):
        read_series("x", tmp_path, {"good"})


def test_a_sweep_that_was_cut_off_is_told(tmp_path: Path) -> None:
    write_results(tmp_path, [{"h": 0.0}, {"h": 1.0}], ["a", "b"])
    file = tmp_path / "results.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    write_scores(tmp_path, "good", [1, 2, 3])
    (note,) = read_series("x", tmp_path, {"good"}).notes
    assert "between 1 and 2 rows" in note


def test_every_point_shows_its_answers_to_the_same_prompts(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    write_results(tmp_path, [{"h": 0.0}, {"h": 1.0}], ["a", "b", messages, "d"], samples=2)
    write_scores(tmp_path, "good", [0] * 16)
    found = read_series("x", tmp_path, {"good"})
    zero, one = found.points
    assert len(set(found.shown)) == 3 and found.shown == read_series("y", tmp_path, {"good"}).shown
    assert [answer.prompt for answer in zero.answers] == [answer.prompt for answer in one.answers]
    prompts = ["a", "b", "user: Hi\nassistant: Yes?", "d"]
    for answer in zero.answers:
        assert answer.text == f"answer {prompts.index(answer.prompt)}.0 at {{'h': 0.0}}"


def test_frontiers_of_a_series_and_of_all(tmp_path: Path) -> None:
    own = series(tmp_path / "own", {0: (1, 10), 1: (2, 20), 2: (1.5, 30)})
    other = series(tmp_path / "other", {0: (1.8, 8), 1: (3, 40)})
    trade = TradeOff([own, other], GOOD, SHORT)
    assert own.frontier(GOOD, SHORT) == [0, 1]
    assert trade.joint == [{1}, {0, 1}]  # (1.8, 8) is better and shorter than (1, 10)
    assert trade.reference == (1.0, -40.0)
    assert trade.areas == pytest.approx([1 * 20, 0.8 * 32])
    given = TradeOff([own, other], GOOD, SHORT, reference_scores={"good": 0.0, "length": 50.0})
    assert given.areas == pytest.approx([1 * 40 + 1 * 30, 1.8 * 42 + 1.2 * 10])
    assert given.reference_text == "good=0, length=50"


def test_the_pick_is_the_point_of_the_largest_value(tmp_path: Path) -> None:
    means = {w / 10: (w / 10, 5 * (w / 10 - 0.3) ** 2) for w in range(11)}
    found = series(tmp_path / "own", means)
    trade = TradeOff([found], GOOD, SHORT, Preference("good - 2*length"))
    best = max(means, key=lambda w: means[w][0] - 2 * means[w][1])
    assert trade.picked is not None and found.points[trade.picked].values == {"w": best}
    assert trade.values(found) == pytest.approx([x - 2 * y for x, y in means.values()])
    assert TradeOff([found], GOOD, SHORT).picked is None


def test_a_preference_is_an_expression_over_scores() -> None:
    with pytest.raises(OptionError, match="names no score"):
        Preference("1 + 2")
    with pytest.raises(FormulaError):
        Preference("good +")
    assert Preference("1 / good").value({"good": 2.0}) == 0.5
    with pytest.raises(OptionError, match=r"(?s)at a point with good=0: .*division by zero"):
        Preference("1 / good").value({"good": 0.0})
    with pytest.raises(OptionError, match=r"(?s)`god` has no value.*did you mean `good`"):
        Preference("god").value({"good": 1.0})


def test_areas_of_equal_series_differ_by_exactly_nothing(tmp_path: Path) -> None:
    means = {0.0: (1.0, 10.0), 1.0: (2.0, 12.0)}
    own = series(tmp_path / "own", means, noise=0.3)
    reference = {"good": 0.0, "length": 20.0}
    areas = areas_of(TradeOff([own, own], GOOD, SHORT, reference_scores=reference))
    assert areas[0].size == areas[1].size and areas[0].size.low < areas[0].size.high
    assert (areas[1].lead.mean, areas[1].lead.low, areas[1].lead.high) == (0, 0, 0)


def test_the_interval_of_an_area_holds_that_of_all_resamples_counted_out(tmp_path: Path) -> None:
    """Of three prompts there are 27 resamples; the bounds are areas of these, mirrored at the figure."""
    write_results(tmp_path, [{"w": 0.0}], ["a", "b", "c"])
    good, length = [1.0, 2.0, 4.0], [-3.0, -1.0, -1.0]
    write_scores(tmp_path, "good", good)
    write_scores(tmp_path, "length", length)
    reference = {"good": 0.0, "length": 0.0}
    trade = TradeOff(
        [read_series("x", tmp_path, {"good", "length"})], GOOD, SHORT, reference_scores=reference
    )
    (area,) = areas_of(trade)
    counted = sorted(
        statistics.fmean(good[n] for n in drawn) * -statistics.fmean(length[n] for n in drawn)
        for drawn in itertools.product(range(3), repeat=3)
    )
    size = 7 / 3 * 5 / 3
    assert area.size.mean == pytest.approx(size)
    # 2.5% of 27 is less than one: the lowest and the highest of them.
    assert area.size.high == pytest.approx(2 * size - counted[0])
    assert 2 * size - counted[-1] - 1e-12 <= area.size.low <= 2 * size - counted[-3] + 1e-12


def test_no_area_has_an_interval_below_nothing_and_none_at_all_is_not_certain() -> None:
    """The point's mean is the reference; a quarter of the resamples are better, by 1 in both."""
    trade = TradeOff([noisy_series(np.array([[[1.0, 1.0]], [[-1.0, -1.0]]]))], GOOD, SHORT)
    (area,) = areas_of(trade)
    assert area.size == Interval(0.0, 0.0, 1.0)


def test_about_95_of_100_intervals_hold_the_area_though_a_frontier_of_noisy_means_reaches_too_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine points in truth dominate 0.36, and five that are no better than one of them 0.16: by their means
    over 30 prompts both dominate more, the nine more so."""
    monkeypatch.setattr("arith.study.area.draws", functools.partial(draws, resamples=200))
    grid = [(x, y) for x in (0.0, 0.05, 0.1) for y in (0.0, 0.05, 0.1)]
    reference = {"good": -0.5, "length": 0.5}
    generator = np.random.default_rng(0)
    sizes, leads, excess = 0, 0, 0.0
    for _ in range(120):
        shift = generator.normal(size=(30, 1, 2))
        own, other = (
            noisy_series(np.array(means) + shift + generator.normal(size=(30, len(means), 2)))
            for means in (grid, [(-0.1, -0.1)] * 5)
        )
        areas = areas_of(TradeOff([own, other], GOOD, SHORT, reference_scores=reference))
        excess += (areas[0].size.mean - 0.36) / 120
        sizes += areas[0].size.low <= 0.36 <= areas[0].size.high
        leads += areas[1].lead.low <= 0.36 - 0.16 <= areas[1].lead.high
    assert excess > 0.1
    assert 0.88 <= sizes / 120 <= 1 and 0.88 <= leads / 120 <= 1


def test_of_one_prompt_an_area_has_no_interval(tmp_path: Path) -> None:
    write_results(tmp_path, [{"w": 0.0}], ["a"])
    write_scores(tmp_path, "good", [1.0])
    write_scores(tmp_path, "length", [1.0])
    trade = TradeOff([read_series("x", tmp_path, {"good", "length"})], GOOD, SHORT)
    assert str(areas_of(trade)[0].size) == "0"
