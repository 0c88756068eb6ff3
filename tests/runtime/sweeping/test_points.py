"""From a sweep as it is written to its points."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from arith import LLM, Formula, OptionError
from arith.language.alternatives import alternatives
from arith.runtime.sweeping.keys import SweepKeys
from arith.runtime.sweeping.points import Point, points_of

FORMULA = Formula("base + h*help + s*harm", base=LLM("b"), help=LLM("h"), harm=LLM("s"))
Sweep = dict[str, Any]


def points(sweep: Sweep, formula: Formula = FORMULA, **params: float) -> list[Point]:
    return points_of(SweepKeys.of(sweep), formula, params)


def values(sweep: Sweep, formula: Formula = FORMULA, **params: float) -> list[dict[str, float | str]]:
    return [dict(point.values) for point in points(sweep, formula, **params)]


def test_lists_are_axes_of_a_grid() -> None:
    expected = [{"h": h, "s": s} for h, s in itertools.product((0, 0.5, 1), (2, 3))]
    assert values({"h": [0, 0.5, 1], "s": [2, 3]}) == expected
    assert [dict(point.params) for point in points({"h": [0, 0.5, 1], "s": [2, 3]})] == expected


def test_a_text_follows_from_other_names_swept_or_fixed_or_linked() -> None:
    assert values({"h": [0, 0.25], "s": "1 - h"}) == [{"h": 0, "s": 1}, {"h": 0.25, "s": 0.75}]
    assert values({"h": [0, 0.25], "s": "most - h"}, most=2) == [{"h": 0, "s": 2}, {"h": 0.25, "s": 1.75}]
    chained = values({"s": "2*h", "h": "x + 1", "x": [0, 1]})
    assert [(one["x"], one["h"], one["s"]) for one in chained] == [(0, 1, 2), (1, 2, 4)]


def test_a_name_that_links_alone_use_is_swept_and_is_no_parameter() -> None:
    point = points({"angle": [0.5], "h": "angle", "s": "1 - angle"})[0]
    assert point.values == {"angle": 0.5, "h": 0.5, "s": 0.5} and set(point.params) == {"h", "s"}


def test_what_is_not_swept_has_the_value_that_is_given_or_bound() -> None:
    bound = Formula("base + h*help + s*harm", **{**FORMULA.bindings, "s": 0.3})
    assert points({"h": [1]}, bound)[0].params == {"h": 1, "s": 0.3}
    assert points({"h": [1]}, bound, s=0.7)[0].params == {"h": 1, "s": 0.7}
    assert points({"h": [1], "s": [9]}, bound, s=0.7)[0].params == {"h": 1, "s": 9}


def test_sets_of_points_are_combined_with_axes() -> None:
    listed = [{"h": 1.0, "s": 2.0}, {"h": 3.0, "s": 4.0}]
    assert values({"points": listed}) == listed
    formula = Formula("base + h*help + s*harm + w*base", **FORMULA.bindings)
    found = values({"points": listed, "w": [5, 6]}, formula)
    assert sorted((one["h"], one["s"], one["w"]) for one in found) == [
        (h, s, w) for (h, s) in ((1, 2), (3, 4)) for w in (5, 6)
    ]


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_drawn_points_lie_in_their_ranges_and_follow_the_seed(kind: str) -> None:
    def drawn(seed: int) -> list[dict[str, float | str]]:
        return values({kind: {"count": 64, "ranges": {"h": [-1, 1], "s": [2, 6]}, "seed": seed}})

    found = drawn(3)
    assert len(found) == 64 and found == drawn(3) and found != drawn(4)
    for name, low, high in (("h", -1, 1), ("s", 2, 6)):
        column = [float(one[name]) for one in found]
        assert (
            low <= min(column) < low + 0.2 * (high - low) and high - 0.2 * (high - low) < max(column) <= high
        )


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_the_order_of_the_names_changes_no_drawn_point(kind: str) -> None:
    ranges = {"h": [-1, 1], "s": [2, 6]}
    found = [
        values({kind: {"count": 8, "ranges": {name: ranges[name] for name in names}}})
        for names in ("hs", "sh")
    ]
    assert found[0] == found[1]


def test_sobol_points_are_spread_more_evenly_than_chance() -> None:
    """Of 64 points of a scrambled Sobol sequence each of 64 equal columns holds exactly one."""
    found = values({"sobol": {"count": 64, "ranges": {"h": [0, 64], "s": [0, 64]}}})
    for name in "hs":
        assert sorted(int(float(one[name])) for one in found) == list(range(64))


def test_a_simplex_has_every_split_of_its_total() -> None:
    names = {"x": "a", "y": "b", "z": "c"}
    formula = Formula("x*a + y*b + z*c", **{operand: LLM(operand) for operand in names.values()})
    found = values({"simplex": {"names": list(names), "steps": 4, "total": 2}}, formula)
    expected = {(i / 2, j / 2, (4 - i - j) / 2) for i in range(5) for j in range(5 - i)}
    assert {(one["x"], one["y"], one["z"]) for one in found} == expected and len(found) == 15


def test_formulas_are_swept_each_with_the_names_that_it_uses() -> None:
    sides = {"both": FORMULA, "one": Formula("base + h*help", base=LLM("b"), help=LLM("h"))}
    found = points({"formula": sides, "h": [0, 1], "s": [2, 3]}, alternatives(sides))
    shown = [tuple(point.values.values()) for point in found]
    assert shown == [("both", 0, 2), ("both", 0, 3), ("both", 1, 2), ("both", 1, 3), ("one", 0), ("one", 1)]
    assert [(point.params["is_both"], point.params["is_one"]) for point in found] == [(1, 0)] * 4 + [
        (0, 1)
    ] * 2


@pytest.mark.parametrize("axis", [(0.0, 0.5), range(2), np.array([0, 0.5]), torch.tensor([0, 0.5])])
def test_an_axis_in_python_is_any_sequence_of_numbers(axis: Any) -> None:
    assert values({"h": axis, "s": [1]}) == [{"h": float(value), "s": 1} for value in axis]


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({}, "nothing to run through"),
        ({"h": [], "s": [1]}, "`h` must have at least 1"),
        ({"points": []}, "`points` must have at least 1"),
        ({"h": [0, 0.0], "s": [1]}, "`h` holds 0.0 twice"),
        ({"h": [0], "s": [1], "x": [2]}, "`x` is swept, but the formula does not use it"),
        ({"h": [0], "s": [1], "zz": [2]}, "hint: its parameters: `h`, `s`"),
        ({"h": [0], "s": [1], "hh": [2]}, "did you mean `h`?"),
        ({"h": [0], "s": [1], "base": [1]}, "`base` is swept, but the formula does not use it"),
        ({"h": [0], "s": [1], "x": "h"}, "`x` is swept, but the formula does not use it"),
        ({"h": [0, 1], "s": "1/h"}, "s, at h=0: division by zero"),
        ({"h": [1], "s": "1 - g"}, "`g` has no value"),
        ({"h": "s", "s": "h", "points": [{"h": 1}]}, "`h` is swept twice"),
        ({"h": [1], "x": "s", "s": "x"}, "in a circle: `x` -> `s` -> `x`"),
        ({"h": [1], "points": [{"h": 2, "s": 1}]}, "`h` is swept twice"),
        ({"points": [{"h": 1, "s": 2}, {"h": 1}]}, "gives point 2 other names"),
        ({"points": [{"h": 1, "s": 2}, {"h": 1, "s": 2}]}, "twice"),
        ({"h": [float("nan")], "s": [1]}, "`h.0` must be finite"),
        ({"h": [True], "s": [1]}, "`h.0` must be a number"),
        ({"h": 1, "s": [1]}, "`h` must be a list"),
        ({"a b": [1]}, "`a b` is no name"),
        ({"points": [{"1h": 1}]}, "`points.0.1h` is no name"),
        ({"h": "1 -", "s": [1]}, "h: the formula ends after `-`"),
        ({"random": {"count": 2, "ranges": {"h": [1, 0]}}, "s": [1]}, "doesn't rise"),
        ({"random": {"count": 0, "ranges": {"h": [0, 1]}}, "s": [1]}, "`random.count` must be at least 1"),
        ({"sobol": {"ranges": {"h": [0, 1]}}, "s": [1]}, "`sobol.count` is missing"),
        ({"sobol": {"count": 2, "ranges": {"h": [0, 1]}, "sed": 1}, "s": [1]}, "`sobol.sed`"),
        ({"simplex": {"names": ["h", "h"], "steps": 2}}, "twice"),
        ({"simplex": {"names": ["h"], "steps": 2}}, "at least 2"),
        ({"formula": {}}, "`formula` must have at least 1"),
        ({"formula": {"a": FORMULA}, "h": [0], "s": [1]}, "doesn't hold the formulas that are compared"),
        ({"points": [{"h": 1, "s": 2}, {"s": 2, "h": 1}]}, "holds h=1, s=2 twice"),
        ({"h": range(400), "s": range(400)}, "more than 100,000 points"),
        ({"simplex": {"names": ["h", "s", *"abcdef"], "steps": 1000}}, "more than 100,000 points"),
        ({"random": {"count": 100_000, "ranges": {"h": [0, 1]}}, "s": [0, 1]}, "more than 100,000 points"),
        ({"h": {0.5}, "s": [1]}, "`h` must be a list"),
        ({1: [0]}, "`1` is no name"),
        ([("h", [0])], "it has to be a mapping of names to values"),
    ],
)  # fmt: skip
def test_a_sweep_that_means_nothing_is_refused(sweep: Sweep, words: str) -> None:
    with pytest.raises(OptionError) as raised:
        points(sweep)
    assert str(raised.value).startswith("sweep: ") and words in str(raised.value)
