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
    demo = subject.operand()
    with made_in() as folder:
        large = subject.operand(model=save_deepened(subject, folder / "large", DEEPER, SHARE))
        knows_nothing = subject.operand(model=save_truncated(subject, folder / "small", LAYERS))
        cases: list[tuple[str, Formula, Target | None]] = [
            ("agreeing", Formula("supersede(small, large)", small=demo, large=large), FASTER),
            ("guessing", Formula("supersede(small, large)", small=knows_nothing, large=demo), None),
        ]
        for said, formula, target in cases:
            trial = subject.trial(formula, tokens)
            yield from against_plain("small before large", said, trial, {}, target, extent, {})
