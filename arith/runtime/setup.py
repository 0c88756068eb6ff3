"""A generation made ready from the options of a call."""

import sys
from collections.abc import Collection, Sequence
from typing import Any

from arith.operands.llm import LLM
from arith.runtime.ending import Ending
from arith.runtime.generation import Generation
from arith.runtime.lanes import Lanes
from arith.runtime.models import Models
from arith.runtime.options import Sampling
from arith.runtime.rewinding.guard import guards_of
from arith.runtime.rewinding.rewind import Rewinding, RewindStats
from arith.runtime.row import Row
from arith.runtime.sampling.choice import TokenChoice
from arith.runtime.sampling.processors import Processors
from arith.runtime.sampling.stopping import Criteria, StopStrings
from arith.runtime.speculation.drafting import Drafting
from arith.runtime.speculation.drafts import Draft, FormulaDraft, PromptLookup
from arith.runtime.speculation.pace import Pace
from arith.runtime.speculation.speculation import Speculation, SpeculationStats


def ready(
    models: Models,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    logits_processor: Any,
    stopping_criteria: Any,
    drafting: Drafting | None,
    pace: Pace,
    stats: SpeculationStats,
    rewinds: RewindStats,
    max_rows: int,
) -> Generation:
    """The generation of these rows, which has run nothing. Raises `OptionError` for what doesn't fit."""
    first_operand = next(iter(models.operands.values()))
    processors = Processors(sampling, logits_processor, sampling.greedy)
    choice = TokenChoice(sampling, processors, first_operand, models.race)
    draft: Draft | None = None
    if drafting is not None:
        if drafting.formula is None:
            draft = PromptLookup(first_operand, models.fusion.vocabulary)
        else:
            draft = FormulaDraft(models.fusion_of(drafting.formula), choice)
    guards = guards_of(sampling.forbid)
    rewinding: Rewinding | None = None
    if guards:
        rewinding = Rewinding(guards, models.tokenizer, sampling.max_new_tokens, rewinds)
    for row in rows:
        row.draft_vocabulary = min((models.known[one] for one in row.runs), default=sys.maxsize)
        row.ending = _ending(models, row, sampling)
        row.guarded = bool(guards)
    return Generation(
        models.fusion,
        Lanes(models.backbones, models.exits),
        rows,
        choice,
        Criteria(stopping_criteria),
        sampling.max_new_tokens,
        Speculation(draft, pace, stats),
        rewinding,
        max_rows,
    )


def _ending(models: Models, row: Row, sampling: Sampling) -> Ending:
    strings = sampling.stop_strings
    return Ending(
        frozenset().union(*map(models.end_ids.__getitem__, row.reads)),
        StopStrings(strings, models.tokenizer) if strings else None,
        max(1, min(sampling.max_new_tokens, _reach(models, row, row.reads))),
        _reach(models, row, row.runs),
    )


def _reach(models: Models, row: Row, operands: Collection[LLM]) -> int:
    """How many tokens of the row go into the windows of all these operands."""
    windows = {operand: window for operand in operands if (window := models.windows[operand]) is not None}
    return min((window - len(row.prompt_ids[one]) for one, window in windows.items()), default=sys.maxsize)
