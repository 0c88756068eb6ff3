"""The rows of a call: one sequence each, with its prompt, sample index, parameter values and random
stream."""

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arith.errors import OptionError, PromptError
from arith.language import Formula
from arith.operands.llm import LLM
from arith.operands.prompts import Prompt, render
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.lane import Lane
from arith.runtime.noise import row_key
from arith.runtime.result import FORMULA, FinishReason


@dataclass(eq=False)
class Row:
    """One sequence being generated. `prompt_ids` holds its prompt as each operand reads it."""

    index: int
    sample: int
    prompt: Prompt
    prompt_ids: Mapping[LLM, tuple[int, ...]]
    values: Mapping[str, float]
    needed: frozenset[LLM]  # the operands whose weight is not exactly 0
    names: Mapping[str, LLM]  # of all the formula's operands
    key: int
    tokens: list[int] = field(default_factory=list)
    logprobs: dict[str, list[float]] = field(default_factory=dict)
    lanes: dict[LLM, Lane] = field(default_factory=dict)
    finish_reason: FinishReason | None = None
    queued: float = field(default_factory=time.perf_counter)
    started: float = math.nan
    prefilled: float = math.nan
    ended: float = math.nan

    @property
    def place(self) -> str:
        """How an error names the row."""
        return f"row {self.index + 1}, sample {self.sample + 1}, step {len(self.tokens)}"

    def append(self, token: int, logprobs: Mapping[str, float]) -> None:
        """Takes the next token, with its log-probability under the formula and each operand."""
        self.tokens.append(token)
        for name, value in logprobs.items():
            self.logprobs.setdefault(name, []).append(value if self.ran(name) else math.nan)

    def ran(self, name: str) -> bool:
        """Whether there is a log-probability under this name: an operand of weight 0 does not run."""
        return name == FORMULA or self.names[name] in self.needed


def as_prompts(prompts: Any) -> list[Prompt]:
    """The prompts of a call as a list: a text, an object or a list of messages by itself is one prompt."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise PromptError(f"prompts are a text or a list, not {type(prompts).__name__}")
    if prompts and all(isinstance(one, Mapping) and "role" in one and "prompt" not in one for one in prompts):
        return [list(prompts)]
    return list(prompts)


def as_params(formula: Formula, params: Any, count: int) -> list[dict[str, float]]:
    """The parameter values of each prompt, from one dict for all or a list of one for each."""
    if params is None or isinstance(params, Mapping):
        return [formula.parameter_values(params)] * count
    if not isinstance(params, Sequence) or len(params) != count:
        given = len(params) if isinstance(params, Sequence) else type(params).__name__
        raise OptionError(
            f"params is a dict, or a list with one for each of the {count} prompts, not {given}"
        )
    return [formula.parameter_values(one) for one in params]


class PromptReader:
    """Renders prompts for the operands of a formula, each distinct one once."""

    def __init__(self, operands: Mapping[str, LLM], windows: Mapping[LLM, int | None]):
        self.operands = dict.fromkeys(operands.values())
        self.names = {operand: name for name, operand in reversed(list(operands.items()))}
        self.windows = windows

    def read(self, prompts: Sequence[Prompt], room: Sequence[int]) -> list[dict[LLM, tuple[int, ...]]]:
        """Each prompt's token ids for each operand; `room` tokens have to fit behind it into the context
        window.

        Raises `PromptError` naming the prompt and the operand.
        """
        seen: dict[str, dict[LLM, tuple[int, ...]]] = {}
        found = []
        for number, (prompt, behind) in enumerate(zip(prompts, room, strict=True), start=1):
            content = canonical_text(prompt, f"prompt {number}")
            if content not in seen:
                seen[content] = {
                    operand: tuple(render(operand, load_tokenizer(operand), prompt, place=f"prompt {number}"))
                    for operand in self.operands
                }
            for operand, ids in seen[content].items():
                self._refuse_too_long(operand, len(ids), behind, number)
            found.append(seen[content])
        return found

    def _refuse_too_long(self, operand: LLM, length: int, behind: int, number: int) -> None:
        window = self.windows[operand]
        if window is not None and length + behind > window:
            name = self.names[operand]
            rest = f" and {behind} more follow" if behind else ""
            said = f"prompt {number} has {length} tokens for operand `{name}`{rest}"
            hint = "shorten it, or use a model with a longer window"
            raise PromptError(f"{said}: its context window is {window}", hint)


def canonical_text(prompt: Prompt, place: str) -> str:
    """A prompt as text that is equal for equal prompts."""
    try:
        return json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError):
        raise PromptError(
            f"{place}: a prompt is text, a list of messages or an object of these, not {prompt!r}"
        ) from None


def make_rows(
    formula: Formula,
    operands: Mapping[str, LLM],
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Mapping[LLM, tuple[int, ...]]],
    values: Sequence[Mapping[str, float]],
    samples: int,
    seed: int,
) -> list[Row]:
    """The rows of a call, the samples of a prompt next to each other."""
    seen: Counter[str] = Counter()
    rows = []
    for index, prompt in enumerate(prompts):
        content = canonical_text(prompt, f"prompt {index + 1}")
        occurrence = seen[content]
        seen[content] += 1
        needed = frozenset(operands[name] for name in formula.program.needed_operands(values[index]))
        for sample in range(samples):
            key = row_key(seed, content, occurrence, sample)
            row = Row(index, sample, prompt, prompt_ids[index], values[index], needed, operands, key)
            row.logprobs = {name: [] for name in (FORMULA, *formula.operands)}
            rows.append(row)
    return rows
