"""Speculation: a small model before a large one."""

from collections.abc import Iterator

from arith import Formula
from arith.runtime.measuring import Figure, Target
from benchmarks.comparisons.drafts import FASTER, against_plain
from benchmarks.made_models import made_in, save_deepened, save_truncated
from benchmarks.subject import Extent, Subject

TOKENS = 64
DEEPER = 5  # times the layers: with the output layer, four times the work
SHARE = 0.01  # at which about three of four drafted tokens agree
LAYERS = 6  # of a truncated copy, which agrees with nothing


def small_drafts(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """Speculation: the time of `supersede(small, large)` whose models agree in about three of four tokens,
    and of one whose small model knows nothing."""
    tokens = 12 if extent.quick else TOKENS
    with made_in() as folder:
        deep = save_deepened(subject, folder / "large", DEEPER, SHARE)
        shallow = save_truncated(subject, folder / "small", LAYERS)
        cases: list[tuple[str, str, str, str | None, Target | None]] = [
            ("agreeing", subject.model, deep, subject.dtype, FASTER),
            ("agreeing", subject.model, deep, None, FASTER),
            ("guessing", shallow, subject.model, None, None),
        ]
        for said, small, large, dtype, target in cases:
            operands = {
                name: subject.operand(0, dtype, model=model)
                for name, model in (("small", small), ("large", large))
            }
            trial = subject.trial(Formula("supersede(small, large)", **operands), tokens)
            case = f"{said}, {dtype or subject.engine_precision()}"
            yield from against_plain("small before large", case, trial, {}, target, extent, {})
