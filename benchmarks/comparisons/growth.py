"""How the cost grows with rows, operands and context."""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import Trial
from benchmarks.subject import PROMPTS, Extent, Subject

# Twice the lanes may take twice the time, and a little for noise.
LINEAR = Target("<=", 1.1)


def growth(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """How a step grows with rows, operands and context, and a prompt with its length, with the engine's own
    defaults."""
    rows = (1, 2, 4) if extent.quick else (1, 2, 4, 8, 16, 32)
    operands = (1, 2) if extent.quick else (1, 2, 3, 4, 6, 8)
    two = subject.trial(subject.average(2, None), extent.tokens)
    yield from lanes("rows", [(f"N = 2, B = {one}", two, one, 2 * one) for one in rows], extent)
    several = {one: subject.trial(subject.average(one, None), extent.tokens) for one in operands}
    cases = [(f"N = {one}, B = 4", trial, 4, 4 * one) for one, trial in several.items()]
    yield from lanes("operands", cases, extent)
    yield from contexts(subject, two, extent)


def lanes(what: str, cases: Sequence[tuple[str, Trial, int, int]], extent: Extent) -> Iterator[Figure]:
    """Steps of more and more lanes, and how much more a lane comes to cost from one case to the next."""
    times = in_turn(*(partial(trial.step_ms, rows) for _, trial, rows, _ in cases), repeats=extent.repeats)
    each = []
    for (case, _, _, count), found in zip(cases, times, strict=True):
        step = statistics.median(found)
        each.append(step / count)
        yield Figure(f"more {what}", case, "ms a step", step, note=f"{step / count:.2f} ms a lane")
    most = max(later / before for before, later in pairwise(each))
    yield Figure(f"more {what}", "growth of the cost of a lane, at most", "times", most, target=LINEAR)


def contexts(subject: Subject, two: Trial, extent: Extent) -> Iterator[Figure]:
    """Steps and prompts at several lengths of the context, for one row of two operands."""
    words = " ".join(PROMPTS).split()
    sizes = (32, 128) if extent.quick else (32, 256, 1024, 2048)
    texts = [" ".join((words * (1 + size // len(words)))[:size]) for size in sizes]
    trials = [Trial(two.engine, [text], extent.tokens) for text in texts]
    for trial, found in zip(
        trials, in_turn(*(partial(trial.run, 1) for trial in trials), repeats=extent.repeats), strict=True
    ):
        length = trial.prompt_length()
        step = statistics.median(one.step_ms for one in found)
        prefill = 1e3 * statistics.median(one.seconds - one.decoding for one in found)
        case = f"N = 2, B = 1, prompts of {length} tokens"
        yield Figure("longer context", case, "ms a step", step)
        yield Figure(
            "longer context", case, "ms a prompt", prefill, note=f"{prefill / (2 * length):.2f} ms a token"
        )
