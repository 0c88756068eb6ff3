"""A generation made ready from the options of a call."""

from collections.abc import Sequence
from typing import Any

from arith.runtime.generation import Ending, Generation
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
    strings = sampling.stop_strings
    ending = Ending(
        sampling.max_new_tokens,
        {row: frozenset().union(*map(models.end_ids.__getitem__, row.reads)) for row in rows},
        {row: StopStrings(strings, models.tokenizer) for row in rows if strings},
        Criteria(stopping_criteria),
        models.windows,
    )
    guards = guards_of(sampling.forbid)
    rewinding: Rewinding | None = None
    if guards:
        rewinding = Rewinding(guards, models.tokenizer, sampling.max_new_tokens, ending.stop_strings, rewinds)
        for row in rows:
            row.guarded = True
    draft: Draft | None = None
    if drafting is not None:
        if drafting.formula is None:
            draft = PromptLookup(first_operand)
        else:
            draft = FormulaDraft(models.fusion_of(drafting.formula), choice)
    return Generation(
        models.fusion,
        Lanes(models.backbones, models.exits),
        rows,
        choice,
        ending,
        Speculation(draft, pace, stats),
        rewinding,
        max_rows,
    )
