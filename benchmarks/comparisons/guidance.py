"""transformers' classifier-free guidance."""

from collections.abc import Iterator
from functools import partial

from arith import Formula
from arith.runtime.measuring import Figure, Target
from benchmarks import peers
from benchmarks.comparisons.calls import by_rate
from benchmarks.subject import Extent, Subject

SCALE = 1.5
SAME = {1: Target(">=", 1.2), 4: Target(">=", 1.8), 16: Target(">=", 1.15)}
OWN = {1: Target(">=", 3), 4: Target(">=", 3), 16: Target(">=", 2)}


def guidance(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """`uncond + g*(cond - uncond)` against `generate` with `guidance_scale` and `negative_prompt_ids`: in one
    dtype, and each as it comes."""
    cases = [
        ("same dtype", subject.dtype, subject.dtype, SAME),
        ("own defaults", None, subject.transformers_dtype(), OWN),
    ]
    for said, dtype, their_dtype, targets in cases:
        text = f"uncond + {SCALE}*(cond - uncond)"
        formula = Formula(text, cond=subject.operand(1, dtype), uncond=subject.operand(0, dtype))
        trial = subject.trial(formula, extent.tokens)
        model = subject.plain(their_dtype)
        for rows in extent.rows:
            options = peers.guidance(subject.prompt_ids(rows, 0), SCALE)
            wanted = subject.prompt_ids(rows, 1)
            theirs = partial(peers.generate, model, wanted, extent.tokens, **options)
            case = f"B = {rows}, {said} ({dtype or subject.engine_precision()}, {their_dtype})"
            ours, target = partial(trial.run, rows), targets.get(rows)
            yield from by_rate("guidance", case, ours, theirs, extent.repeats, target)
