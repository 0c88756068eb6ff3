"""The engine: a formula with its models loaded, ready to write and to score."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arith.language import Formula
from arith.runtime.delivery import pieces_of, results_of
from arith.runtime.explaining.explain import explain
from arith.runtime.explaining.explanation import Explanation
from arith.runtime.generation import Generation
from arith.runtime.options import NO_DRAFT, Compile, Sampling, check_compile, check_max_rows
from arith.runtime.result import Piece, Result, Score
from arith.runtime.runner import Runner
from arith.runtime.sampling.streamer import check_streamer
from arith.runtime.scoring import next_log_probs, score
from arith.runtime.sweeping.points import Point
from arith.runtime.sweeping.sweep import SweepResult, chosen_points, swept

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from arith.spec import Spec


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
        self.runner = Runner(self.formula, max_rows, device, speculate, compile)
        self.device = self.runner.device
        self.operands = self.runner.models.operands
        self.plan = self.runner.models.plan
        self.notes = self.runner.models.notes
        self.stats = self.runner.stats
        self.points: Sequence[Point] = ()
        self._drafting = None if speculate is None else self.runner.drafting  # None follows from the formula
        self._undrafted = speculate is False
        self._compile: Compile = compile
        self._loaded: Spec | None = None

    @classmethod
    def load(cls, path: str | Path, *, max_rows: int | None = None, device: str | None = None) -> "Engine":
        """The engine of a specification: a YAML file, or a folder that `save` wrote.

        Where the specification's sweep compares formulas, the engine holds them all, and calls other than
        `sweep` run the first of them.
        """
        from arith.spec import Spec

        spec = Spec.load(path)
        formula, points = spec.swept()
        options: Any = {"sampling": spec.sampling, "speculate": spec.drafting(), "compile": spec.compile}
        engine = cls(formula, max_rows=max_rows, device=device, **options)
        engine.points = points
        engine._loaded = spec
        return engine

    def save(self, folder: str | Path) -> None:
        """Writes the engine's specification to `spec.yaml` in the folder, and nothing else: the one that it
        was loaded from, or its formula, operands, parameter values, sampling, draft and `compile`.

        Raises `SpecError` for an operator of one's own that can't be named by an import path.
        """
        from arith.spec import Spec

        spec = self._loaded
        if spec is None:
            written = NO_DRAFT if self._undrafted else None
            speculate = written if self._drafting is None else self._drafting.written
            draft = None if self._drafting is None else self._drafting.formula
            spec = Spec.of(self.formula, self.sampling, speculate, draft, self._compile)
        replace(spec, sampling=self.sampling).save(folder)

    def _options(self, given: Mapping[str, Any]) -> Sampling:
        return Sampling.of({**self.sampling.model_dump(exclude_unset=True), **given})

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The first operand's tokenizer, which writes the text of results."""
        return self.runner.models.tokenizer

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
        occurrences: Sequence[int] | None = None,
        **sampling: Any,
    ) -> Iterator[Result]:
        """Like `generate`, but yields each result when its row ends. `places` are what errors call the
        prompts. Of `wanted` rows (index of the prompt, sample) no others are run; each is what it is in a
        run of all. `occurrences` number equal prompts, which decides their random numbers; without it they
        are counted."""
        options = self._options(sampling)
        generation = self.runner.generation(
            prompts,
            options,
            params=params,
            speculate=speculate,
            places=places,
            wanted=wanted,
            occurrences=occurrences,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        if streamer is not None:
            check_streamer(streamer, len(generation.waiting))
        return self._results(generation, options, streamer)

    def _results(self, generation: Generation, sampling: Sampling, streamer: Any) -> Iterator[Result]:
        with self.runner.at_work(generation):
            yield from results_of(generation, sampling.seed, self.tokenizer, streamer)
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
        generation = self.runner.generation(
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
        with self.runner.at_work(generation):
            yield from pieces_of(generation, sampling.seed, self.tokenizer)

    def sweep(
        self,
        prompts: Any,
        sweep: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, float] | None = None,
        places: Sequence[str] | None = None,
        wanted: Collection[tuple[int, int, int]] | None = None,
        **options: Any,
    ) -> Iterator[SweepResult]:
        """Writes text for each prompt at each point of a sweep; yields each result when its row ends.

        prompts: as for `generate`.
        sweep: names with the list of their values, or with an expression over other names: `{"h": [0, 0.5,
            1], "s": "1 - h"}`; `points`, `random`, `sobol` and `simplex` as in a specification, and
            `formula` of those that the engine's own holds (`arith.language.alternatives` makes such a
            one). When None the specification's own.
        params: values of parameters that aren't swept, over those bound.
        places: what errors call the prompts.
        wanted: index of the prompt, index of the point and sample of the rows to run; None for all. Each is
            what it is in a run of all.
        options: those of `as_completed`, those of `Sampling` among them.

        Points share the prompts' prefill and random numbers: a row equals that of `generate` with the point's
        parameters. Raises `OptionError` for a sweep that can't be run.
        """
        points = chosen_points(self, sweep, params)
        return swept(self, points, prompts, places=places, wanted=wanted, options=options)

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
        rows = self.runner.rows.to_score(prompts, completions, params, end=end, behind=False, places=places)
        return self.runner.teacher_forced(rows, partial(score, self.runner.models.fusion), behind=False)

    def explain(
        self,
        prompt: Any,
        text: Any = None,
        *,
        params: Mapping[str, float] | None = None,
        base: str | None = None,
        top: int = 10,
        **sampling: Any,
    ) -> Explanation:
        """For every token of a text, each operand's log-probability, what it adds to the formula, and
        KL(formula‖base).

        prompt: one prompt, as for `generate`.
        text: a text or a list of token ids, as for `score`; None for what the formula writes, with the
            options `sampling` of `generate`.
        base: the operand to compare with; the first one when None.
        top: how many of the formula's likeliest tokens to give at each place.

        Distributions are those of temperature 1, before any option of sampling.
        """
        return explain(self, prompt, text, params=params, base=base, top=top, sampling=sampling)

    def logprobs(self, prompts: Any, continuations: Any, *, params: Any = None) -> Tensor:
        """The formula's normalised log-probabilities `[rows, vocab]` of the token after each continuation: a
        text or a list of token ids, which may be empty."""
        fusion = self.runner.models.fusion
        rows = self.runner.rows.to_score(prompts, continuations, params, end=False, behind=True)
        found = self.runner.teacher_forced(rows, partial(next_log_probs, fusion), behind=True)
        return torch.cat(found) if found else torch.empty(0, fusion.vocabulary)
