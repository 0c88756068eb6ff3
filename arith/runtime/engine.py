"""The engine: a formula with its models loaded, ready to write and to score."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from arith.errors import OptionError
from arith.language import Formula
from arith.operands.llm import LLM
from arith.operands.loading import context_window, end_ids, load_config, load_model, resolve_device
from arith.operands.tokenizers import load_tokenizer
from arith.operands.vocabulary import Member, common_vocabulary
from arith.runtime.backbone import Backbone, make_backbone
from arith.runtime.fusion import Fusion
from arith.runtime.generation import Ending, Generation
from arith.runtime.options import Sampling
from arith.runtime.plan import Plan, free_memory
from arith.runtime.processors import Processors
from arith.runtime.result import Piece, Result, Score
from arith.runtime.row import Row
from arith.runtime.rows import RowMaker
from arith.runtime.scoring import fuse_positions, score, teacher_forced
from arith.runtime.stats import EngineStats
from arith.runtime.stopping import Criteria, StopStrings
from arith.runtime.text import TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ROWS = {"cuda": 256, "mps": 32, "cpu": 32}
LOGITS_SHARE = 0.2  # of the free memory, for the logits of the texts that are scored together

Measured = TypeVar("Measured")


class Engine:
    """Runs a formula.

    `formula` is an operand, an expression of operands, or a bound `Formula`. Its models are loaded at once:
    each distinct set of weights one time, on `device` (cuda, mps or cpu, the best one when None). `max_rows`
    bounds the sequences in flight; when None it follows from the memory. Raises `FormulaError`,
    `OperandError` or `PlanError` before loading whatever can be known before.
    """

    def __init__(self, formula: Any, *, max_rows: int | None = None, device: str | None = None):
        if max_rows is not None and (
            not isinstance(max_rows, int) or isinstance(max_rows, bool) or max_rows < 1
        ):
            raise OptionError(f"max_rows is {max_rows!r}: it has to be a whole number of at least 1")
        self.formula = Formula.of(formula)
        self.operands: dict[str, LLM] = self.formula.bound_operands()
        self.device = resolve_device(device)
        self.plan = Plan.of(self.operands, self.device, download=True)
        distinct = dict.fromkeys(self.operands.values())
        self._windows = {operand: context_window(load_config(operand.weights)) for operand in distinct}
        self._end_ids = frozenset(token for operand in distinct for token in end_ids(operand))
        members = {
            name: Member(load_tokenizer(o), load_config(o.weights).get_text_config().vocab_size, o.vocab)
            for name, o in self.operands.items()
        }
        vocabulary = common_vocabulary(members)
        self.plan.refuse_if_impossible()
        self._max_rows = max_rows
        self._backbones: dict[LLM, Backbone] = {}
        for planned in self.plan.backbones:
            model = load_model(planned.weights, self.device)
            backbone = make_backbone(model, planned.adapters, vocabulary.size)
            self._backbones.update((operand, backbone) for _, operand in planned.lanes)
        slower = {backbone.name: backbone.slower for backbone in self._backbones.values() if backbone.slower}
        self.notes = (
            *vocabulary.notes,
            *(f"{name} runs one lane at a time and without a cache: {why}" for name, why in slower.items()),
        )
        self._rows = RowMaker(self.formula, self.operands, self._windows, vocabulary.size)
        self._fusion = Fusion(self.formula, self.operands, vocabulary.size, self.device)
        self.stats = EngineStats(self.plan, self._backbones)
        self._busy = threading.Lock()

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The first operand's tokenizer, which writes the text of results."""
        return load_tokenizer(next(iter(self.operands.values())))

    def generate(
        self,
        prompts: Any,
        *,
        params: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        streamer: Any = None,
        **sampling: Any,
    ) -> list[Result]:
        """Writes text for each prompt: the results in the order of the prompts, the samples of one next to
        each other.

        prompts: a list of texts, message lists or objects with `prompt` (or one of these by itself).
        params: a dict of parameter values, or one such dict for each prompt.
        logits_processor, stopping_criteria, streamer: transformers' objects; a streamer takes one row.
        sampling: the options of `Sampling`, under transformers' names (`max_new_tokens`, `temperature`,
            `top_p`, `seed`, …).
        """
        found = self.as_completed(
            prompts,
            params=params,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            streamer=streamer,
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
        places: Sequence[str] | None = None,
        **sampling: Any,
    ) -> Iterator[Result]:
        """Like `generate`, but yields each result when its row ends. `places` are what errors call the
        prompts."""
        options = Sampling.of(sampling)
        generation = self._generation(prompts, params, options, logits_processor, stopping_criteria, places)
        if streamer is not None and len(generation.waiting) > 1:
            raise OptionError(
                "a streamer takes one row", "give one prompt and num_return_sequences 1, or use `stream`"
            )
        return self._results(generation, options, streamer)

    def _results(self, generation: Generation, sampling: Sampling, streamer: Any) -> Iterator[Result]:
        if streamer is not None and generation.waiting:
            streamer.put(torch.tensor([generation.waiting[0].prompt_ids[generation.first_operand]]))
        with self._at_work():
            for rows in generation.run():
                for row in rows:
                    if streamer is not None:
                        streamer.put(torch.tensor([row.tokens[-1]]))
                    if row.finish_reason is not None:
                        yield self._result(row, sampling)
        if streamer is not None:
            streamer.end()

    def stream(
        self,
        prompts: Any,
        *,
        params: Any = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        places: Sequence[str] | None = None,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """Like `as_completed`, but yields each row's text in pieces as it comes; a row's last piece has its
        `result`."""
        options = Sampling.of(sampling)
        generation = self._generation(prompts, params, options, logits_processor, stopping_criteria, places)
        return self._pieces(generation, options)

    def _pieces(self, generation: Generation, sampling: Sampling) -> Iterator[Piece]:
        decoders = {row: TextDecoder(self.tokenizer) for row in generation.waiting}
        with self._at_work():
            for rows in generation.run():
                for row in rows:
                    token = row.tokens[-1]
                    text = decoders[row].push(token)
                    if row.finish_reason is None:
                        yield Piece(row.index, row.sample, text, [token])
                    else:
                        text += decoders.pop(row).flush()
                        yield Piece(row.index, row.sample, text, [token], self._result(row, sampling))

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
        return self._teacher_forced(rows, partial(score, self._fusion), keep_last=False)

    def logprobs(self, prompts: Any, continuations: Any, *, params: Any = None) -> Tensor:
        """The formula's normalised log-probabilities `[rows, vocab]` of the token after each continuation (a
        text, or a list of token ids; either may be empty)."""
        rows = self._rows.to_score(prompts, continuations, params, end=False, behind=True)

        def behind(row: Row, logits: Mapping[LLM, Tensor]) -> Tensor:
            return fuse_positions(self._fusion, row, logits, len(row.tokens), 1).log_probs

        found = self._teacher_forced(rows, behind, keep_last=True)
        return torch.cat(found) if found else torch.empty(0, self._fusion.vocabulary)

    def _generation(
        self,
        prompts: Any,
        params: Any,
        sampling: Sampling,
        logits_processor: Any,
        stopping_criteria: Any,
        places: Sequence[str] | None,
    ) -> Generation:
        """A generation that is checked and rendered, but has run nothing."""
        rows = self._rows.to_generate(prompts, params, sampling.num_return_sequences, sampling.seed, places)
        return Generation(
            self._fusion,
            self._backbones,
            rows,
            sampling,
            Processors(sampling, logits_processor, sampling.greedy),
            Ending(self._end_ids, Criteria(stopping_criteria), self._windows),
            {
                row: StopStrings(sampling.stop_strings, self.tokenizer)
                for row in rows
                if sampling.stop_strings
            },
            self._rows_at_once(rows, sampling.max_new_tokens),
        )

    def _rows_at_once(self, rows: Sequence[Row], new_tokens: int) -> int:
        if self._max_rows is not None:
            return self._max_rows
        longest = max((len(ids) for row in rows for ids in row.prompt_ids.values()), default=0)
        return self.plan.rows_that_fit(longest + new_tokens, MOST_ROWS.get(self.device.type, 32))

    def _result(self, row: Row, sampling: Sampling) -> Result:
        assert row.finish_reason is not None
        timings = {
            "queued": row.started - row.queued,
            "prefill": row.prefilled - row.started,
            "decode": row.ended - row.prefilled,
        }
        text = self.tokenizer.decode(row.tokens, skip_special_tokens=True)
        assert isinstance(text, str)
        return Result(
            index=row.index,
            sample=row.sample,
            prompt=row.prompt,
            seed=sampling.seed,
            text=text,
            token_ids=row.tokens,
            finish_reason=row.finish_reason,
            logprobs=row.logprobs,
            timings=timings,
        )

    def _teacher_forced(
        self, rows: Sequence[Row], measure: Callable[[Row, Mapping[LLM, Tensor]], Measured], keep_last: bool
    ) -> list[Measured]:
        """What `measure` makes of each row and its logits."""
        longest = max((len(row.tokens) for row in rows), default=0)
        positions = 1 if keep_last else max(longest, 1)
        logits_bytes = 4 * positions * self._fusion.vocabulary * len(self._backbones)
        with_logits = int(LOGITS_SHARE * free_memory(self.device) // logits_bytes)
        together = max(1, min(self._rows_at_once(rows, longest), with_logits))
        with self._at_work():
            return [
                measure(row, logits)
                for start in range(0, len(rows), together)
                for row, logits in teacher_forced(self._backbones, rows[start : start + together], keep_last)
            ]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """The engine's caches belong to one call at a time, and are given back at its end."""
        if not self._busy.acquire(blocking=False):
            raise OptionError("the engine is at work on another call", "finish or close that one first")
        try:
            yield
        finally:
            for backbone in dict.fromkeys(self._backbones.values()):
                backbone.reset()
            self._busy.release()
