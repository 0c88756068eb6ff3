"""How far rows draft, in a world whose costs and chances are known."""

import random
from itertools import takewhile

import pytest

from arith.runtime.speculation.pace import LONGEST, Pace


def pace_of(
    chances: dict[int, float], rows: int, drafting: float, check: float, position: float, any_drafted: float
) -> tuple[float, bool]:
    """Tokens a second of simulated rows whose drafted tokens are kept with the chance of their grade (drawn
    evenly), and whether drafting was left off. A round takes `check` seconds, `position` for each position,
    and `any_drafted` more if there is a drafted token; every tenth one takes five times as long."""
    draw = random.Random(5)
    pace = Pace(None)
    clock = tokens = 0.0
    for number in range(400):
        drafts: list[list[int]] = [[] for _ in range(rows)]
        started = clock
        pace.begin(rows)
        for _ in range(pace.most):
            worth = pace.worth_drafting(drafts)
            if not any(worth):
                break
            for grades, pays in zip(drafts, worth, strict=True):
                if pays:
                    grades.append(draw.choice(list(chances)))
            clock += drafting
            pace.note_drafting(drafting)
        counts = pace.worth_checking(drafts)
        drafts = [grades[:count] for grades, count in zip(drafts, counts, strict=True)]
        kept = [
            len(list(takewhile(lambda grade: draw.random() < chances[grade], grades))) for grades in drafts
        ]
        positions = sum(len(grades) + 1 for grades in drafts)
        checking = check + position * positions + (any_drafted if positions > rows else 0)
        checking *= 5 if number % 10 == 9 else 1
        clock += checking
        tokens += sum(kept) + rows
        pace.note(drafts, kept, positions=positions, checking=checking, seconds=clock - started)
    return tokens / clock, pace.off


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "costs",
    [
        (0.1, 1.0, 0.05, 0.0),
        (0.25, 1.0, 0.2, 0.0),
        (0.02, 1.0, 0.0, 0.0),
        (0.3, 1.0, 1.0, 0.0),
        (0.1, 1.0, 0.05, 0.5),
        (0.0, 1.0, 0.02, 2.0),
    ],
)
@pytest.mark.parametrize("rows", [1, 4])
def test_rows_are_as_fast_as_with_the_best_fixed_number_of_drafted_tokens(
    chance: float, costs: tuple[float, float, float, float], rows: int
) -> None:
    """A round of g tokens gives 1 + c + ... + c^g a row; with every tenth five times as slow it takes 1.4."""
    drafting, check, position, any_drafted = costs
    best = max(
        rows
        * sum(chance**n for n in range(length + 1))
        / (length * drafting + 1.4 * (check + position * rows * (length + 1) + any_drafted * (length > 0)))
        for length in range(LONGEST + 1)
    )
    rate, _ = pace_of({0: chance}, rows, *costs)
    assert rate > 0.9 * best


def test_drafts_that_are_never_right_are_left_off() -> None:
    plain, _ = pace_of({0: 0.0}, 4, 0.0, 1.0, 0.0, 0.0)
    rate, off = pace_of({0: 0.0}, 4, 0.2, 1.0, 0.05, 0.0)
    assert off and rate > 0.9 * 4 / (1.4 * (1.0 + 4 * 0.05)) and plain > rate
    assert not pace_of({0: 0.8}, 4, 0.2, 1.0, 0.05, 0.0)[1]


def test_tokens_of_a_grade_that_is_seldom_right_are_not_checked() -> None:
    """Half of the tokens are right and half wrong: told apart by their grades they are faster than not."""
    told, _ = pace_of({0: 0.1, 1: 0.9}, 4, 0.05, 1.0, 0.25, 0.0)
    mixed, _ = pace_of({0: 0.5}, 4, 0.05, 1.0, 0.25, 0.0)
    assert told > 1.1 * mixed


def test_a_number_of_tokens_that_is_given_is_kept_to() -> None:
    pace = Pace(7)
    for _ in range(20):
        pace.begin(2)
        assert pace.most == 7 and pace.worth_drafting([[0], []]) == [True, True]
        assert pace.worth_checking([[0] * 7, []]) == [7, 0]
        pace.note([[0] * 7, []], [0, 0], positions=9, checking=8.0, seconds=9.0)
    assert not pace.off
