"""Whole calls of the engine against whole calls of something else."""

from collections.abc import Callable, Iterator, Sequence

from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import Timing

Call = Callable[[], Timing]


def by_time(
    measured: str, case: str, ours: Call, theirs: Call, repeats: int, target: Target | None
) -> Iterator[Figure]:
    """Milliseconds for a token of every row: of whole calls, and after the prompts are in."""
    mine, other = in_turn(ours, theirs, repeats=repeats)
    yield Figure.of(measured, case, "ms a token", tokens(mine), tokens(other), target)
    yield Figure.of(measured, f"{case}, prompts aside", "ms a token", steps(mine), steps(other), target)


def by_rate(
    measured: str, case: str, ours: Call, theirs: Call, repeats: int, target: Target | None
) -> Iterator[Figure]:
    """Tokens a second of all rows together: of whole calls, and after the prompts are in."""
    mine, other = in_turn(ours, theirs, repeats=repeats)
    yield Figure.of(measured, case, "tokens/s", rates(mine), rates(other), target)
    yield Figure.of(measured, f"{case}, prompts aside", "tokens/s", decoded(mine), decoded(other), target)


def tokens(found: Sequence[Timing]) -> list[float]:
    """Milliseconds of each whole call for a token of every row."""
    return [1e3 * one.seconds / (one.steps + 1) for one in found]


def rates(found: Sequence[Timing]) -> list[float]:
    """Tokens a second of each whole call."""
    return [one.rate for one in found]


def decoded(found: Sequence[Timing]) -> list[float]:
    """Tokens a second of each call, once all rows have their first token."""
    return [one.tokens / (one.steps + 1) * 1e3 / one.step_ms for one in found]


def steps(found: Sequence[Timing]) -> list[float]:
    """Milliseconds a step of each call."""
    return [one.step_ms for one in found]
