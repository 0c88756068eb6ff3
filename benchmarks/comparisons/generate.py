"""transformers' generate of one model."""

from collections.abc import Iterator
from functools import partial

import torch

from arith.runtime.measuring import Figure, Target
from benchmarks import peers
from benchmarks.comparisons.calls import by_time
from benchmarks.subject import Extent, Subject

TARGETS = {1: Target("<=", 1.03), 4: Target("<=", 0.95), 16: Target("<=", 0.92)}


def generate(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A token of two operands and B rows against `generate` of 2·B rows of one model."""
    trial = subject.trial(subject.average(2, subject.dtype), extent.tokens)
    model = subject.plain(subject.dtype)
    for rows in extent.rows:
        ids = torch.cat([subject.prompt_ids(rows, number) for number in range(2)])
        theirs = partial(peers.generate, model, ids, extent.tokens)
        case, target = f"N = 2, B = {rows}, {subject.dtype}", TARGETS.get(rows)
        ours = partial(trial.run, rows)
        yield from by_time("generate of N·B rows", case, ours, theirs, extent.repeats, target)
