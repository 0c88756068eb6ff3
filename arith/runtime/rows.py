"""From the arguments of a call to its rows."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from arith.characters import stray_surrogate
from arith.errors import OptionError, PromptError
from arith.language import Formula
from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import LLM
from arith.operands.loading import context_window, end_ids, load_config
from arith.operands.prompts import Prompt, encode_continuation, render, turn_end
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.result import FORMULA
from arith.runtime.row import Row
from arith.runtime.sampling.noise import row_key
from arith.runtime.speculation.drafting import told_of_draft


def as_prompts(prompts: Any) -> list[Prompt]:
    """The prompts of a call as a list: a text, an object or a list of messages by itself is one prompt."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes):
        raise PromptError(f"prompts are a text or a list of prompts, not {type(prompts).__name__}")
    listed: list[Any] = list(prompts)
    if listed and all(isinstance(one, Mapping) and "role" in one and "prompt" not in one for one in listed):
        return [listed]
    return listed


def occurrences_of(prompts: Sequence[Prompt]) -> list[int]:
    """For each prompt how many equal ones come before it."""
    seen: Counter[str] = Counter()
    found = []
    for number, prompt in enumerate(prompts, start=1):
        content = canonical_text(prompt, f"prompt {number}")
        found.append(seen[content])
        seen[content] += 1
    return found


def as_params(formula: Formula, params: Any, count: int) -> list[dict[str, float]]:
    """The parameter values of each prompt, from one dict for all or a list of one for each."""
    if params is None or isinstance(params, Mapping):
        return [formula.parameter_values(params)] * count
    listed = isinstance(params, Sequence) and not isinstance(params, str)
    if not listed or len(params) != count:
        given = len(params) if listed else repr(params)
        raise OptionError(
            f"params is a dict, or a list with one for each of the {count} prompts, not {given}"
        )
    for number, one in enumerate(params, start=1):
        if not isinstance(one, Mapping):
            raise OptionError(
                f"params of prompt {number} has to be a dict of values, not {one!r}", "params={'alpha': 0.3}"
            )
    return [formula.parameter_values(one) for one in params]


class PromptReader:
    """Renders prompts for the operands of a formula, each distinct one once."""

    def __init__(self, operands: Mapping[str, LLM], windows: Mapping[LLM, int | None]):
        self.operands = dict.fromkeys(operands.values())
        self.names = {operand: name for name, operand in reversed(list(operands.items()))}
        self.windows = windows

    @classmethod
    def of(cls, formula: Formula, values: Mapping[str, float] | None = None) -> "PromptReader":
        """That of a bound formula whose models aren't loaded, for the operands that matter at these parameter
        values (None: for all). Raises `OperandError` for one without a configuration."""
        bound, program = formula.bound_operands(), formula.program
        needed = frozenset(program.operands) if values is None else program.needed(values)
        operands = {name: bound[name] for name in program.operands if name in needed}
        windows = {operand: context_window(load_config(operand.weights)) for operand in operands.values()}
        return cls(operands, windows)

    def read(self, prompts: Sequence[Prompt], places: Sequence[str]) -> list[dict[LLM, tuple[int, ...]]]:
        """Each prompt's token ids for each operand. Raises `PromptError` naming the prompt's place."""
        seen: dict[str, dict[LLM, tuple[int, ...]]] = {}
        found = []
        for prompt, place in zip(prompts, places, strict=True):
            content = canonical_text(prompt, place)
            if content not in seen:
                seen[content] = {
                    operand: tuple(render(operand, load_tokenizer(operand), prompt, place=place))
                    for operand in self.operands
                }
            found.append(seen[content])
        return found

    def check(self, prompts: Sequence[Prompt], room: Sequence[int], places: Sequence[str]) -> None:
        """Raises `PromptError` for the first prompt that an operand can't read with `room` tokens behind."""
        for ids, behind, place in zip(self.read(prompts, places), room, places, strict=True):
            for operand, own in ids.items():
                self.refuse_too_long(operand, len(own), behind, place)

    def fits(self, operand: LLM, length: int) -> bool:
        """Whether so many tokens go into the operand's context window."""
        window = self.windows[operand]
        return window is None or length <= window

    def refuse_too_long(self, operand: LLM, length: int, behind: int, place: str) -> None:
        """Raises `PromptError`, naming the prompt's place and the operand, where a prompt of this length and
        so many tokens behind it don't go into the operand's context window."""
        if not self.fits(operand, length + behind):
            window, name = self.windows[operand], self.names[operand]
            rest = f" and {behind} more follow" if behind else ""
            said = f"{place}: the prompt has {length} tokens for operand `{name}`{rest}"
            hint = "shorten it, or use a model with a longer window"
            raise PromptError(f"{said}, and its context window is {window}", hint)


class RowMaker:
    """Makes rows of the prompts, texts and parameter values that the calls of one engine are given.

    `operands` are the formula's, `readers` all that read the prompts, those of drafts included. `places` are
    what errors call the prompts, such as a file's lines; without them they are counted.
    """

    def __init__(
        self,
        formula: Formula,
        operands: Mapping[str, LLM],
        readers: Mapping[str, LLM],
        windows: Mapping[LLM, int | None],
        vocabulary: int,
    ):
        self.formula = formula
        self.operands = operands
        self.reader = PromptReader(readers, windows)
        self.vocabulary = vocabulary
        self.first_operand = next(iter(operands.values()))

    def to_generate(
        self,
        prompts: Any,
        params: Any,
        samples: int,
        seed: int,
        places: Sequence[str] | None = None,
        wanted: Collection[tuple[int, int]] | None = None,
        occurrences: Sequence[int] | None = None,
        draft: Formula | None = None,
    ) -> list[Row]:
        """Rows that have no token yet, the samples of a prompt next to each other: of all, or those whose
        prompt's index and sample are `wanted`. `occurrences` number equal prompts, instead of being counted;
        `draft` proposes tokens for them."""
        prompts = as_prompts(prompts)
        values = as_params(self.formula, params, len(prompts))
        rows = self._rows(prompts, [0] * len(prompts), values, samples, seed, places, occurrences)
        for row in rows if draft is not None else ():
            assert draft is not None
            shared = {name: value for name, value in row.values.items() if name in draft.parameters}
            with told_of_draft():
                row.values = {**draft.parameter_values(shared), **row.values}
            drafting = frozenset(draft.bindings[name] for name in draft.program.needed(row.values))
            lengths = {operand: len(ids) for operand, ids in row.prompt_ids.items() if operand in drafting}
            if all(self.reader.fits(operand, length) for operand, length in lengths.items()):
                row.drafting = drafting
        return rows if wanted is None else [row for row in rows if (row.index, row.sample) in wanted]

    def to_score(
        self,
        prompts: Any,
        texts: Any,
        params: Any,
        *,
        end: bool,
        behind: bool,
        places: Sequence[str] | None = None,
    ) -> list[Row]:
        """Rows whose tokens are given: each prompt with its text. The last token runs only if what is behind
        it is asked; `end` adds the token that ends the turn."""
        prompts = as_prompts(prompts)
        texts = [texts] if isinstance(texts, str) else list(texts)
        if len(prompts) != len(texts):
            raise OptionError(f"there are {len(prompts)} prompts and {len(texts)} texts to go with them")
        tokenizer = load_tokenizer(self.first_operand)
        closing = [turn_end(self.first_operand, tokenizer, end_ids(self.first_operand))] if end else []
        tokens = [[*self._token_ids(text, number), *closing] for number, text in enumerate(texts, start=1)]
        values = as_params(self.formula, params, len(prompts))
        room = [len(ids) if behind else max(0, len(ids) - 1) for ids in tokens]
        rows = self._rows(prompts, room, values, 1, 0, places)
        for row, ids in zip(rows, tokens, strict=True):
            row.tokens = ids
        return rows

    def _rows(
        self,
        prompts: Sequence[Prompt],
        room: Sequence[int],
        values: Sequence[Mapping[str, float]],
        samples: int,
        seed: int,
        places: Sequence[str] | None,
        occurrences: Sequence[int] | None = None,
    ) -> list[Row]:
        counted = [f"prompt {number}" for number in range(1, len(prompts) + 1)]
        prompt_ids = self.reader.read(prompts, places or counted)
        occurrences = occurrences or occurrences_of(prompts)
        bound, program = self.formula.bindings, self.formula.program
        known: dict[tuple[tuple[str, float], ...], frozenset[LLM | GuideOperand]] = {}  # of a sweep's points
        rows = []
        for index, prompt in enumerate(prompts):
            content = canonical_text(prompt, counted[index])
            point = tuple(sorted(values[index].items()))
            if point not in known:
                known[point] = frozenset(bound[name] for name in program.needed(values[index]))
            needed = known[point]
            for operand, ids in prompt_ids[index].items():
                if operand in needed:
                    self.reader.refuse_too_long(operand, len(ids), room[index], (places or counted)[index])
            for sample in range(samples):
                place = f"{places[index] if places else f'row {index + 1}'}, sample {sample + 1}"
                key = row_key(seed, content, occurrences[index], sample)
                row = Row(
                    index, sample, place, prompt, prompt_ids[index], values[index], needed, self.operands, key
                )
                row.logprobs = {name: [] for name in (FORMULA, *self.operands)}
                row.totals = dict.fromkeys(row.logprobs, 0.0)
                rows.append(row)
        return rows

    def _token_ids(self, text: Any, number: int) -> list[int]:
        if isinstance(text, str):
            stray = stray_surrogate(text)
            if stray is not None:
                raise OptionError(f"text {number} holds `{stray}`, which stands for no character")
            return encode_continuation(load_tokenizer(self.first_operand), text)
        ids = text.tolist() if isinstance(text, Tensor) else text
        if not isinstance(ids, Sequence) or not all(map(_is_whole, ids)):
            raise OptionError(f"text {number} has to be a text or a list of token ids, not {text!r}")
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise OptionError(
                    f"token {token} of text {number} is not in the vocabulary of {self.vocabulary}"
                )
        return [int(token) for token in ids]


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def canonical_text(prompt: Prompt, place: str) -> str:
    """A prompt as text that is equal for equal prompts."""
    try:
        text = json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError):
        raise PromptError(
            f"{place}: a prompt is text, a list of messages or an object of these, not {prompt!r}"
        ) from None
    stray = stray_surrogate(text)
    if stray is not None:
        raise PromptError(
            f"{place}: the prompt holds `{stray}`, which stands for no character", "text has to be UTF-8"
        )
    return text
