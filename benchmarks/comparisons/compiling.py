"""Compiled steps."""

from collections.abc import Iterator
from functools import partial

from arith.runtime.measuring import Figure, in_turn
from benchmarks.subject import Extent, Subject


def compiling(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A step under `compile: on` against one under `off`, two operands in the engine's own dtype, and how
    long its programs take to make."""
    compiled, plain = (
        subject.trial(subject.average(2, None), extent.tokens, compile=when) for when in ("on", "off")
    )
    for rows in extent.rows:
        case = f"N = 2, B = {rows}, {subject.engine_precision()}"
        first, again = compiled.run(rows), compiled.run(rows)
        ours, theirs = in_turn(
            partial(compiled.step_ms, rows), partial(plain.step_ms, rows), repeats=extent.repeats
        )
        yield Figure.of("steps without compiling", case, "ms a step", ours, theirs)
        yield Figure("making the programs", case, "s", max(0.0, first.seconds - again.seconds))
