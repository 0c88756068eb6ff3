"""The floor: plain forwards of the same model, over the same lanes, in the same dtype."""

from collections.abc import Iterator
from functools import partial

from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import Trial, forwards_ms
from benchmarks.subject import Extent, Subject

TOKENS = 16
TARGET = Target("<=", 1.05)


def floor(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A step of N operands on one backbone against plain forwards of as many lanes: with transformers' own
    cache, and with the engine's (the forwards of the same call, without a formula)."""
    for count in extent.operands:
        tokens = min(TOKENS, extent.tokens)
        trial = subject.trial(subject.average(count, subject.dtype), tokens)
        model = subject.plain(subject.dtype)
        length, steps = trial.prompt_length(), tokens - 1
        for rows in extent.rows:
            own: list[float] = []
            ours, plain = in_turn(
                partial(_step_ms, trial, rows, own),
                partial(forwards_ms, model, rows * count, length, steps),
                repeats=extent.repeats,
            )
            case = f"N = {count}, B = {rows}, {subject.dtype}"
            yield Figure.of("plain forwards", case, "ms a step", ours, plain, TARGET)
            # The first was the warm-up.
            yield Figure.of("plain forwards, our cache", case, "ms a step", ours, own[1:], TARGET)


def _step_ms(trial: Trial, rows: int, own: list[float]) -> float:
    """Milliseconds a step; those of its forwards are put to `own`."""
    timing, forwards = trial.run_and_forwards_ms(rows)
    own.append(forwards)
    return timing.step_ms
