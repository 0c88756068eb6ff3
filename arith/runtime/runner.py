"""The runner: the models of an engine, and what its calls have in common."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from arith.errors import OptionError
from arith.language import Formula
from arith.operands.loading import resolve_device
from arith.runtime.backbones.backbone import Backbone
from arith.runtime.free_memory import free_memory
from arith.runtime.generation import Generation
from arith.runtime.models import Models
from arith.runtime.options import Compile, Sampling
from arith.runtime.plan import no_room_for, size_in_words
from arith.runtime.row import Row
from arith.runtime.rows import RowMaker
from arith.runtime.scoring import Measured, RowLogits, teacher_forced
from arith.runtime.setup import ready
from arith.runtime.speculation.drafting import Drafting, drafting_of
from arith.runtime.speculation.pace import Pace
from arith.runtime.stats import EngineStats

MOST_ROWS = {"cuda": 256, "mps": 32, "cpu": 32}


class Runner:
    """Runs rows of one formula, one call at a time. Loads its models when it is made; the arguments are those
    of `Engine`."""

    def __init__(
        self, formula: Formula, max_rows: int | None, device: str | None, speculate: Any, compile: Compile
    ):
        self.formula = formula
        self.device = resolve_device(device)
        self.drafting = drafting_of(speculate, formula, formula.bindings)
        draft = None if self.drafting is None else self.drafting.formula
        self.models = Models(formula, draft, self.device, compile)
        readers, vocabulary = self.models.readers, self.models.fusion.vocabulary
        self.rows = RowMaker(formula, self.models.operands, readers, self.models.windows, vocabulary)
        self.max_rows = max_rows
        self.stats = EngineStats(self.models.plan, self.models.backbones)
        self._paces: dict[tuple[str, int | None] | None, Pace] = {}
        self._busy = threading.Lock()

    def generation(
        self,
        prompts: Any,
        sampling: Sampling,
        *,
        params: Any,
        speculate: Any,
        places: Sequence[str] | None,
        wanted: Collection[tuple[int, int]] | None = None,
        occurrences: Sequence[int] | None = None,
        **objects: Any,
    ) -> Generation:
        """A generation that is checked and rendered, but has run nothing."""
        drafting = self.drafting
        if speculate is not None:
            declared = {**self.formula.bindings, **self.models.declared}
            drafting = drafting_of(speculate, self.formula, declared)
        samples, seed = sampling.num_return_sequences, sampling.seed
        draft = None if drafting is None else drafting.formula
        if draft is not None:
            self.models.fusion_of(draft)  # refuses one whose models aren't loaded
        rows = self.rows.to_generate(prompts, params, samples, seed, places, wanted, occurrences, draft)
        return ready(
            self.models,
            rows,
            sampling,
            drafting=drafting,
            pace=self._pace_of(drafting),
            stats=self.stats.speculation,
            rewinds=self.stats.rewinding,
            max_rows=self._rows_at_once(rows, sampling.max_new_tokens),
            **objects,
        )

    def teacher_forced(
        self, rows: Sequence[Row], measure: Callable[[Row, RowLogits], Measured], *, behind: bool
    ) -> list[Measured]:
        """What `measure` makes of each row and its logits."""
        longest = max((len(row.tokens) for row in rows), default=0)
        with self.at_work():
            most = self._rows_at_once(rows, longest)
            models = self.models
            return teacher_forced(models.fusion, models.backbones, rows, measure, behind=behind, most=most)

    def _pace_of(self, drafting: Drafting | None) -> Pace:
        """The pace of a draft, with what calls before have learnt."""
        key = None if drafting is None else (str(drafting.formula), drafting.tokens)
        return self._paces.setdefault(key, Pace(None if drafting is None else drafting.tokens))

    def _rows_at_once(self, rows: Sequence[Row], new_tokens: int) -> int:
        """How many rows are in flight at most. Raises `PlanError` for one whose prompt alone has no room."""
        held = sum(backbone.cache_bytes for backbone in set(self.models.backbones.values()))
        self._refuse_without_room(rows, held)
        most = self.max_rows
        if most is None:
            longest = max((row.longest_prompt for row in rows), default=0) + new_tokens
            longest = max(_cached(backbone, longest) for backbone in self.models.backbones.values())
            most = MOST_ROWS.get(self.device.type, 32)
            most = self.models.plan.rows_that_fit(longest, most, held)
        self.stats.rows_at_once = min(most, len(rows))
        return most

    def _refuse_without_room(self, rows: Sequence[Row], held: int) -> None:
        models = self.models
        if any(operand.weights.device_map for operand in models.backbones):
            return
        free = free_memory(self.device) + held
        for row in rows:
            lengths = {one: len(row.prompt_ids[one]) for one in row.runs}
            cached = {one: n for one, n in lengths.items() if _cached(models.backbones[one], n) == n}
            needed = models.plan.prompt_bytes(cached)
            if needed > free:
                figures = f"the keys and values of its prompt take {size_in_words(needed)}"
                raise no_room_for(row.place, figures, self.device, free)

    @contextmanager
    def at_work(self, generation: Generation | None = None) -> Iterator[None]:
        """The models' caches belong to one call at a time."""
        if not self._busy.acquire(blocking=False):
            raise OptionError("the engine is at work on another call", "finish or close that one first")
        try:
            yield
        finally:
            try:
                if generation is not None:
                    self.stats.lowered_to = generation.lowered_to
                self.models.forget()
            finally:
                self._busy.release()


def _cached(backbone: Backbone, length: int) -> int:
    """Of how many tokens a backbone keeps keys and values in a lane of that length at most."""
    return length if backbone.most_cached is None else min(length, backbone.most_cached)
