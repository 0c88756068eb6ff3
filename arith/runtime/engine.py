"""The engine: a formula with its models loaded, ready to write and to score."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from arith.errors import OptionError
from arith.language import Formula
from arith.operands.loading import resolve_device
from arith.runtime.generation import Generation
from arith.runtime.models import Models
from arith.runtime.options import Compile, Sampling, check_compile, check_max_rows
from arith.runtime.result import Piece, Result, Score
from arith.runtime.row import Row
from arith.runtime.rows import RowMaker
from arith.runtime.sampling.streamer import check_streamer
from arith.runtime.sampling.text import TextDecoder
from arith.runtime.scoring import RowLogits, next_log_probs, score, teacher_forced
from arith.runtime.setup import ready
from arith.runtime.speculation.drafting import drafting_of
from arith.runtime.stats import EngineStats

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ROWS = {"cuda": 256, "mps": 32, "cpu": 32}

Measured = TypeVar("Measured")


class Engine:
    """Runs a formula.

    `formula` is an operand, an expression of operands, or a bound `Formula`. Its models are loaded at once:
    each distinct set of weights one time, on `device` (cuda, mps or cpu, the best one when None). `max_rows`
    bounds the sequences in flight; when None it follows from the memory. `sampling` are the options of calls
    that don't give their own, and `speculate` is what drafts tokens, by which texts come faster and stay the
    same (see `arith.runtime.speculation.drafting`). `compile` makes programs of the models' steps: "on",
    "off", or "auto" where it pays. Raises `FormulaError`, `OperandError` or `PlanError` before loading
    whatever can be known before.
    """

    def __init__(
        self,
        formula: Any,
        *,
        max_rows: int | None = None,
        device: str | None = None,
        sampling: Sampling | Mapping[str, Any] | None = None,
        speculate: Any = None,
        compile: Compile = "auto",
    ):
        check_max_rows(max_rows)
        check_compile(compile)
        self.sampling = sampling if isinstance(sampling, Sampling) else Sampling.of(dict(sampling or {}))
        self.formula = Formula.of(formula)
        self.device = resolve_device(device)
        self._drafting = drafting_of(speculate, self.formula, self.formula.bindings)
        draft = None if self._drafting is None else self._drafting.formula
        self._models = Models(self.formula, draft, self.device, compile)
        self.operands = self._models.operands
        self.plan = self._models.plan
        self.notes = self._models.notes
        models = self._models
        self._rows = RowMaker(
            self.formula, self.operands, models.readers, models.windows, models.fusion.vocabulary
        )
        self._max_rows = max_rows
        self.stats = EngineStats(self.plan, self._models.backbones)
        self._busy = threading.Lock()

    @classmethod
    def load(cls, path: str | Path, *, max_rows: int | None = None, device: str | None = None) -> "Engine":
        """The engine of a specification: a YAML file, or a folder that `save` wrote."""
        from arith.spec import Spec

        spec = Spec.load(path)
        options: Any = {"sampling": spec.sampling, "speculate": spec.drafting(), "compile": spec.compile}
        return cls(spec.formula(), max_rows=max_rows, device=device, **options)

    def save(self, folder: str | Path) -> None:
        """Writes the formula, its operands, parameter values and sampling to `spec.yaml` in the folder, and
        nothing else. Raises `SpecError` for an operator of one's own that can't be named by an import
        path."""
        from arith.spec import Spec

        Spec.of(self.formula, self.sampling).save(folder)

    def _options(self, given: Mapping[str, Any]) -> Sampling:
        return Sampling.of({**self.sampling.model_dump(exclude_unset=True), **given})

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The first operand's tokenizer, which writes the text of results."""
        return self._models.tokenizer

    def generate(
        self,
        prompts: Any,
        *,
        params: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        streamer: Any = None,
        speculate: Any = None,
        **sampling: Any,
    ) -> list[Result]:
        """Writes text for each prompt: the results in the order of the prompts, the samples of one next to
        each other.

        prompts: a list of texts, message lists or objects with `prompt` (or one of these by itself).
        params: a dict of parameter values, or one such dict for each prompt.
        logits_processor, stopping_criteria, streamer: transformers' objects; a streamer takes one row.
        speculate: what drafts tokens, in place of what the engine was given; False drafts none.
        sampling: the options of `Sampling`, under transformers' names (`max_new_tokens`, `temperature`,
            `top_p`, `seed`, …); those left out are the engine's own.
        """
        found = self.as_completed(
            prompts,
            params=params,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            streamer=streamer,
            speculate=speculate,
            **sampling,
        )
        return sorted(found, key=lambda result: (result.index, result.sample))

    def as_completed(
        self,
        prompts: Any,
        *,
        params: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        streamer: Any = None,
        speculate: Any = None,
        places: Sequence[str] | None = None,
        wanted: Collection[tuple[int, int]] | None = None,
        **sampling: Any,
    ) -> Iterator[Result]:
        """Like `generate`, but yields each result when its row ends. `places` are what errors call the
        prompts. Of `wanted` rows (index of the prompt, sample) no others are run; each is what it is in a
        run of all."""
        options = self._options(sampling)
        generation = self._generation(
            prompts,
            options,
            params=params,
            speculate=speculate,
            places=places,
            wanted=wanted,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        if streamer is not None:
            check_streamer(streamer, len(generation.waiting))
        return self._results(generation, options, streamer)

    def _results(self, generation: Generation, sampling: Sampling, streamer: Any) -> Iterator[Result]:
        if streamer is not None and generation.waiting:
            first = next(iter(self.operands.values()))
            streamer.put(torch.tensor([generation.waiting[0].prompt_ids[first]]))
        with self._at_work(generation):
            for rows in generation.run():
                for row in rows:
                    if streamer is not None and (tokens := row.release()):
                        streamer.put(torch.tensor(tokens))
                    if row.finish_reason is not None:
                        yield row.result(sampling.seed, self.tokenizer)
        if streamer is not None:
            streamer.end()

    def stream(
        self,
        prompts: Any,
        *,
        params: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        speculate: Any = None,
        places: Sequence[str] | None = None,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """Like `as_completed`, but yields each row's text in pieces as it comes; a row's last piece has its
        `result`."""
        options = self._options(sampling)
        generation = self._generation(
            prompts,
            options,
            params=params,
            speculate=speculate,
            places=places,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        return self._pieces(generation, options)

    def _pieces(self, generation: Generation, sampling: Sampling) -> Iterator[Piece]:
        decoders = {row: TextDecoder(self.tokenizer) for row in generation.waiting}
        with self._at_work(generation):
            for rows in generation.run():
                for row in rows:
                    tokens = row.release()
                    text = "".join(map(decoders[row].push, tokens))
                    result = None
                    if row.finish_reason is not None:
                        text += decoders.pop(row).flush()
                        result = row.result(sampling.seed, self.tokenizer)
                    yield Piece(row.index, row.sample, text, tokens, result)

    def score(
        self,
        prompts: Any,
        completions: Any,
        *,
        params: Any = None,
        end: bool = False,
        places: Sequence[str] | None = None,
    ) -> list[Score]:
        """The exact log-likelihood of each completion after its prompt, under the formula and each operand.

        A completion is a text, tokenised by itself, or a list of token ids. `end` adds the token that ends
        the turn. `places` are what errors call the prompts.
        """
        rows = self._rows.to_score(prompts, completions, params, end=end, behind=False, places=places)
        return self._teacher_forced(rows, partial(score, self._models.fusion), behind=False)

    def logprobs(self, prompts: Any, continuations: Any, *, params: Any = None) -> Tensor:
        """The formula's normalised log-probabilities `[rows, vocab]` of the token after each continuation: a
        text or a list of token ids, which may be empty."""
        rows = self._rows.to_score(prompts, continuations, params, end=False, behind=True)
        found = self._teacher_forced(rows, partial(next_log_probs, self._models.fusion), behind=True)
        return torch.cat(found) if found else torch.empty(0, self._models.fusion.vocabulary)

    def _generation(
        self,
        prompts: Any,
        sampling: Sampling,
        *,
        params: Any,
        speculate: Any,
        places: Sequence[str] | None,
        wanted: Collection[tuple[int, int]] | None = None,
        **objects: Any,
    ) -> Generation:
        """A generation that is checked and rendered, but has run nothing."""
        drafting = self._drafting
        if speculate is not None:
            declared = {**self.formula.bindings, **self._models.declared}
            drafting = drafting_of(speculate, self.formula, declared)
        samples, seed = sampling.num_return_sequences, sampling.seed
        draft = None if drafting is None else drafting.formula
        rows = self._rows.to_generate(prompts, params, samples, seed, places, wanted, draft)
        return ready(
            self._models,
            rows,
            sampling,
            drafting=drafting,
            stats=self.stats.speculation,
            rewinds=self.stats.rewinding,
            max_rows=self._rows_at_once(rows, sampling.max_new_tokens),
            **objects,
        )

    def _rows_at_once(self, rows: Sequence[Row], new_tokens: int) -> int:
        if self._max_rows is not None:
            return self._max_rows
        longest = max((len(ids) for row in rows for ids in row.prompt_ids.values()), default=0)
        return self.plan.rows_that_fit(longest + new_tokens, MOST_ROWS.get(self.device.type, 32))

    def _teacher_forced(
        self, rows: Sequence[Row], measure: Callable[[Row, RowLogits], Measured], *, behind: bool
    ) -> list[Measured]:
        """What `measure` makes of each row and its logits."""
        longest = max((len(row.tokens) for row in rows), default=0)
        with self._at_work():
            most = self._rows_at_once(rows, longest)
            forced = teacher_forced(self._models.fusion, self._models.backbones, rows, behind, most)
            return [measure(row, logits) for row, logits in forced]

    @contextmanager
    def _at_work(self, generation: Generation | None = None) -> Iterator[None]:
        """The engine's caches belong to one call at a time, and are given back at its end."""
        if not self._busy.acquire(blocking=False):
            raise OptionError("the engine is at work on another call", "finish or close that one first")
        try:
            yield
        finally:
            if generation is not None:
                self.stats.lowered_to = generation.lowered_to
            self._models.reset()
            self._busy.release()
