"""How the cost grows with rows, operands and context."""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import Timing, Trial, seconds_of
from benchmarks.attention import Attention, timed_attention
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
    yield from contexts(subject, extent)


def lanes(what: str, cases: Sequence[tuple[str, Trial, int, int]], extent: Extent) -> Iterator[Figure]:
    """Steps of more and more lanes, and how much more a lane comes to cost from one case to the next."""
    times = in_turn(*(partial(trial.step_ms, rows) for _, trial, rows, _ in cases), repeats=extent.repeats)
    each = []
    for (case, _, _, count), found in zip(cases, times, strict=True):
        step = statistics.median(found)
        each.append(step / count)
        yield Figure(f"more {what}", case, "ms a step", step, note=f"{step / count:.2f} ms a lane")
    case = "growth of the cost of a lane, at most"
    yield Figure(f"more {what}", case, "times", _growth(each), target=LINEAR)


def contexts(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """Steps and prompts at several lengths of the context, for one row of two operands; and how much more a
    step, and a token of the prompt, come to cost outside attention."""
    words = " ".join(PROMPTS).split()
    sizes = (32, 128) if extent.quick else (32, 256, 1024, 2048)
    texts = [" ".join((words * (1 + size // len(words)))[:size]) for size in sizes]
    # In a compiled step attention couldn't be timed.
    engine = subject.engine(subject.average(2, None), compile="off")
    trials = [Trial(engine, [text], extent.tokens) for text in texts]
    calls = in_turn(*(partial(_call, trial) for trial in trials), repeats=extent.repeats)
    steps, prompts = [], []
    for trial, found in zip(trials, calls, strict=True):
        length = trial.prompt_length()
        case = f"N = 2, B = 1, prompts of {length} tokens"
        step = statistics.median(call.step_ms for call, _ in found)
        outside = statistics.median(
            call.step_ms - 1e3 * seconds_of(spent.steps) / call.steps for call, spent in found
        )
        steps.append(outside)
        yield Figure("longer context", case, "ms a step", step, note=f"{outside:.1f} outside attention")
        reading = [(call.seconds - call.decoding, seconds_of(spent.prompts)) for call, spent in found]
        prompt = statistics.median(1e3 * whole for whole, _ in reading)
        token = statistics.median(1e3 * (whole - attending) / (2 * length) for whole, attending in reading)
        prompts.append(token)
        yield Figure(
            "longer context", case, "ms a prompt", prompt, note=f"{token:.2f} a token outside attention"
        )
    for what, each in (("a step", steps), ("a prompt's token", prompts)):
        case = f"growth of {what} outside attention, at most"
        yield Figure("longer context", case, "times", _growth(each), target=LINEAR)


def _call(trial: Trial) -> tuple[Timing, Attention]:
    """A call of one row, and the attention in it."""
    with timed_attention() as spent:
        return trial.run(1), spent


def _growth(costs: Sequence[float]) -> float:
    """How many times as much one of the costs is as the one before, at most."""
    return max(later / before for before, later in pairwise(costs))
