"""Frontiers against their definition, and areas against counted cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arith.errors import OptionError
from arith.study.frontier import Goal, Pair, frontier, hypervolume

# Whole numbers of a small range: ties in one score, and equal pairs, are common.
PAIRS = st.lists(st.tuples(st.integers(-4, 6), st.integers(-4, 6)), max_size=12)


def dominates(one: Pair, other: Pair) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


@given(PAIRS)
def test_the_frontier_is_what_nothing_dominates(pairs: list[Pair]) -> None:
    expected = {
        place for place, pair in enumerate(pairs) if not any(dominates(other, pair) for other in pairs)
    }
    found = frontier(pairs)
    assert set(found) == expected and len(found) == len(expected)


@given(PAIRS)
def test_along_the_frontier_one_score_rises_and_the_other_falls(pairs: list[Pair]) -> None:
    found = [pairs[place] for place in frontier(pairs)]
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted((y for _, y in found), reverse=True)


@given(PAIRS, st.tuples(st.integers(-4, 4), st.integers(-4, 4)))
def test_the_hypervolume_is_the_number_of_unit_cells_below_a_point(
    pairs: list[Pair], reference: tuple[int, int]
) -> None:
    cells = sum(
        any(x >= column + 1 and y >= row + 1 for x, y in pairs)
        for column in range(reference[0], 6)
        for row in range(reference[1], 6)
    )
    assert hypervolume(pairs, reference) == cells


def test_the_area_of_three_points_is_that_of_their_stair() -> None:
    pairs = [(0.5, 2.0), (1.5, 1.0), (3.0, 0.25), (1.0, 0.9)]
    assert hypervolume(pairs, (0.0, 0.0)) == pytest.approx(0.5 * 2 + 1.0 * 1 + 1.5 * 0.25)


def test_without_points_the_frontier_is_empty_and_the_area_0() -> None:
    assert frontier([]) == [] and hypervolume([], (0.0, 0.0)) == 0.0


def test_a_minus_before_a_name_wants_the_score_small() -> None:
    assert Goal.of("length") == Goal("length", small=False)
    assert Goal.of("-length") == Goal("length", small=True)
    assert Goal.of("-length").gain(3.0) == -3.0
    for text in ("", "-", "--length"):
        with pytest.raises(OptionError, match="names no score"):
            Goal.of(text)
