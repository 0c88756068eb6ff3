"""The model's bare matrix products."""

from collections.abc import Iterator
from functools import partial

from arith.runtime.measuring import Figure, Target, in_turn
from benchmarks.peers import MatrixProducts
from benchmarks.subject import Extent, Subject

SHAPES = ((1, 1), (2, 1), (2, 4), (2, 16))  # operands, rows
FEW, MANY = Target("<=", 1.3), Target("<=", 1.5)


def products(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A step with the engine's own defaults against every linear layer of the model once, in the same dtype
    and over the same number of lanes."""
    dtype = subject.engine_dtype()
    model = subject.plain(dtype)
    for count, rows in SHAPES:
        lanes = count * rows
        trial = subject.trial(subject.average(count, None), extent.tokens)
        ours, theirs = in_turn(
            partial(trial.step_ms, rows),
            partial(MatrixProducts(model, lanes).ms, extent.tokens - 1),
            repeats=extent.repeats,
        )
        case = f"{lanes} lanes (N = {count}, B = {rows}), {subject.engine_precision()}"
        target = FEW if lanes <= 8 else MANY
        yield Figure.of("bare matrix products", case, "ms a step", ours, theirs, target)
