"""One model alone, with as many rows."""

from collections.abc import Iterator
from functools import partial

from arith.runtime.measuring import Figure, Target
from benchmarks import peers
from benchmarks.comparisons.calls import by_rate
from benchmarks.subject import Extent, Subject

TARGET = Target(">=", 0.9)


def one_model(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """Two operands on one backbone against `generate` of one model, with as many rows; each in the dtype that
    it takes by itself."""
    trial = subject.trial(subject.average(2, None), extent.tokens)
    theirs_dtype = subject.transformers_dtype()
    model = subject.plain(theirs_dtype)
    for rows in extent.rows:
        theirs = partial(peers.generate, model, subject.prompt_ids(rows), extent.tokens)
        case = f"N = 2, B = {rows} ({subject.engine_precision()}, {theirs_dtype})"
        target = TARGET if rows == 1 or subject.device.type == "cuda" else None
        ours = partial(trial.run, rows)
        yield from by_rate("generate of B rows", case, ours, theirs, extent.repeats, target)
