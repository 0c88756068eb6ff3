"""Scores by a formula: how likely it makes each text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from arith.errors import OptionError, SpecError
from arith.operands.fingerprint import fingerprints
from arith.spec import Spec
from arith.study.results import ResultRow
from arith.study.scoring.keys import LogLikelihoodKeys
from arith.study.scoring.scorer import TOGETHER, Scored, Scorer
from grammar.errors import FormulaError
from grammar.parse import parse
from grammar.printer import to_text


class LogLikelihood(Scorer):
    """log P(text | prompt) under a formula, in nats, of the tokens as they were generated; with `per_token`
    over their number.

    results: the folder of a sweep, or a results file; of the former the specification is the default one.
    keys: the formula is over the operands of the specification. A parameter has the value in `params`, else
        that at the row's point, else that of the specification.
    device, max_rows: as in `Engine`.

    Raises `OptionError` for a results file where no specification is named, and `SpecError` for a formula
    that can't be read.
    """

    def __init__(self, keys: LogLikelihoodKeys, results: Path, device: str | None, max_rows: int | None):
        if keys.spec is None and not results.is_dir():
            hint = "name the one with its operands: `spec: FILE`"
            raise OptionError(f"{results} is a file of results, and has no specification beside it", hint)
        document = Spec.load(results if keys.spec is None else keys.spec)
        self._spec = replace(document, text=keys.formula, sweep=None, speculate=None)
        try:
            self._formula = self._spec.formula()
            parameters = self._formula.parameters
        except FormulaError as error:
            raise SpecError(f"formula: {error}") from None
        for name in keys.params:
            if name not in parameters:
                raise SpecError(f"params: the formula `{keys.formula}` has no parameter `{name}`")
        self._keys = keys
        self._device = device
        self._max_rows = max_rows

    @property
    def settings(self) -> Mapping[str, Any]:
        used = set(self._formula.operands)
        return {
            "kind": "log_likelihood",
            "formula": to_text(parse(self._keys.formula)),
            "operands": {name: asdict(one) for name, one in self._spec.operands.items() if name in used},
            "weights": fingerprints({name: one for name, one in self._spec.operands.items() if name in used}),
            "params": {**self._fixed, **self._keys.params},
            "per_token": self._keys.per_token,
        }

    @property
    def _fixed(self) -> dict[str, float]:
        return {name: value for name, value in self._spec.params.items() if name in self._formula.parameters}

    def check(self, rows: Sequence[ResultRow]) -> str:
        """Raises `SpecError` for a parameter without a value and for tokens that aren't those of the
        operands, `PromptError` for a row that an operand can't read or that is too long for its window, and
        `PlanError` for models that don't fit."""
        from arith.operands.loading import resolve_device
        from arith.runtime.models import together
        from arith.runtime.plan import Plan

        self._values(rows)
        self._refuse_unreadable(rows)
        plan = Plan.of(together(self._formula, None), resolve_device(self._device))
        plan.refuse_if_impossible()
        return str(plan)

    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        """Of rows that `check` lets pass. Raises `SpecError` for a text of probability 0: there is no mean of
        -inf."""
        from arith.runtime import Engine

        values = self._values(rows)
        engine = Engine(self._formula, device=self._device, max_rows=self._max_rows, speculate=False)
        # Equal prompts are read once where they stand together.
        order = sorted(range(len(rows)), key=lambda at: rows[at].prompt_key)
        for start in range(0, len(order), TOGETHER):
            chosen = order[start : start + TOGETHER]
            some = [rows[at] for at in chosen]
            found = engine.score(
                [row.whole for row in some],
                [list(row.token_ids) for row in some],
                params=[values[at] for at in chosen],
                places=[row.place for row in some],
            )
            for at, row, one in zip(chosen, some, found, strict=True):
                yield at, self._scored(row, one.total)

    def _scored(self, row: ResultRow, total: float) -> Scored:
        if not math.isfinite(total):
            message = f"{row.place}: {row}: the formula gives the text the probability 0"
            hint = "its log-likelihood is -inf; a formula without support operators makes every text possible"
            raise SpecError(message, hint)
        details = {"log_likelihood": total, "tokens": row.tokens}
        if not self._keys.per_token:
            return Scored(total, details)
        return Scored(total / row.tokens if row.tokens else None, details)

    def _values(self, rows: Sequence[ResultRow]) -> list[dict[str, float]]:
        """The values of the formula's parameters for each row."""
        found = []
        for row in rows:
            known = {**self._fixed, **row.point, **self._keys.params}
            lacking = [name for name in self._formula.program.parameters if name not in known]
            if lacking:
                message = f"{row.place}: the parameter `{lacking[0]}` of `{self._keys.formula}` has no value"
                raise SpecError(message, "give it one in `params` of the scorer")
            found.append({name: float(known[name]) for name in self._formula.program.parameters})
        return found

    def _refuse_unreadable(self, rows: Sequence[ResultRow]) -> None:
        from arith.operands.tokenizers import load_tokenizer
        from arith.runtime.rows import PromptReader

        reader = PromptReader.of(self._formula)
        tokenizer = load_tokenizer(next(iter(reader.operands)))
        for row in rows:
            text = tokenizer.decode(list(row.token_ids), skip_special_tokens=True)
            assert isinstance(text, str)
            if not text.startswith(row.text):
                message = f"{row.place}: {row}: its tokens aren't those of `{self._keys.formula}`"
                raise SpecError(message, "a text is scored by the tokens with which it was generated")
        # A last token is not run: nothing behind it is asked.
        room = [max(0, row.tokens - 1) for row in rows]
        reader.check([row.whole for row in rows], room, [row.place for row in rows])
