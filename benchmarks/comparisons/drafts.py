"""Speculation: forwards saved by a formula's own base, and time saved by looking up the prompt."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from arith import Formula
from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.options import PROMPT_LOOKUP
from arith.runtime.trial import Trial
from benchmarks.subject import PROMPTS, Extent, Subject

ROWS = (1, 4)
TOKENS = 64
LENGTHS = (2, 4, 8)
RECOMMENDED = {"temperature": 0.2, "top_p": 0.9}  # the demo model's authors sample it so
ARM = "You are a cheerful friend. You are warm, and full of praise."
FORWARDS, FASTER = Target("<=", 0.5), Target(">=", 1.3)
NEWS = (
    "The committee met on Tuesday in the old town hall. It decided to repair the bridge over the river, to "
    "plant forty trees along the main road, and to ask the school for help with the summer fair.",
    "The last train leaves the northern station at half past nine. Passengers who miss it may wait in the "
    "small hall beside the ticket office, where the kitchen serves hot soup until midnight.",
    "Three sailors brought the damaged boat back to the harbour before the storm. The owner thanked them "
    "with a basket of apples, and the newspaper printed their names on its front page.",
    "The museum has bought two paintings of the valley and a map of the first railway. Visitors can see them "
    "from Friday on, and on the first Sunday of every month they pay nothing.",
)
# Two of them are about as long as what is written, so that all of it can be copied.
COPYING = tuple(
    f"Repeat this text word for word, and write nothing else: {text} {NEWS[number - 1]}"
    for number, text in enumerate(NEWS)
)


def drafts(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """Speculation: forwards of a GenARM formula for each token with its base as the draft, and the time of
    texts that repeat their prompts, and of texts that don't, with the prompt looked up."""
    tokens = 16 if extent.quick else TOKENS
    formula = Formula(
        "base + alpha*arm",
        base=subject.operand(system=""),
        arm=subject.operand(system=ARM),
        alpha=0.5,
    )
    trial = subject.trial(formula, tokens)
    for length in LENGTHS:
        stats = trial.engine.stats
        stats.reset()
        trial.run(max(ROWS), speculate={"draft": "base", "tokens": length})
        case = f"base + 0.5*arm, {length} drafted at a time"
        note = f"{stats.accepted} of {stats.drafted} accepted"
        target = FORWARDS if length == 4 else None
        yield Figure(
            "draft: base", case, "forwards a token", stats.forwards_per_token, target=target, note=note
        )
    two = subject.average(2, None)
    lookup = {"speculate": {"draft": PROMPT_LOOKUP}}
    for said, prompts, sampling, target in (
        ("copying", COPYING, RECOMMENDED, FASTER),
        ("copying at temperature 1", COPYING, {}, None),
        ("free text", PROMPTS, {}, None),
    ):
        case = f"N = 2, {said}"
        trial = subject.trial(two, tokens, prompts)
        yield from against_plain("prompt look-up", case, trial, lookup, target, extent, sampling)


def against_plain(
    measured: str,
    case: str,
    trial: Trial,
    drafting: dict[str, Any],
    target: Target | None,
    extent: Extent,
    sampling: Mapping[str, float],
) -> Iterator[Figure]:
    """Tokens a second with a draft, against the same texts without."""
    stats = trial.engine.stats.speculation
    for rows in ROWS:
        trial.engine.stats.reset()
        off: list[bool] = []  # after each call with a draft
        ours, plain = in_turn(
            partial(_drafted_rate, trial, rows, {**drafting, **sampling}, off),
            partial(trial.rate, rows, speculate=False, **sampling),
            repeats=extent.repeats,
        )
        ended = "left off" if off[-1] else "kept on"
        note = f"{stats.accepted} of {stats.drafted} accepted, {ended} at the end"
        yield Figure.of(measured, f"{case}, B = {rows}", "tokens/s", ours, plain, target, note)


def _drafted_rate(trial: Trial, rows: int, options: Mapping[str, Any], off: list[bool]) -> float:
    """Tokens a second with a draft; whether it was left off in the end is put to `off`."""
    rate = trial.rate(rows, **options)
    off.append(trial.engine.stats.speculation.off)
    return rate
