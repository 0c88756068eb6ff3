"""A row: one sequence, with its prompt, sample index, parameter values and random stream."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from arith.operands.llm import LLM
from arith.operands.prompts import Prompt
from arith.runtime.lane import Lane
from arith.runtime.result import FORMULA, FinishReason


@dataclass(eq=False)
class Row:
    """One sequence being generated. `prompt_ids` holds its prompt as each operand reads it."""

    index: int
    sample: int
    place: str  # how an error names it
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

    def append(self, token: int, logprobs: Mapping[str, float]) -> None:
        """Takes the next token, with its log-probability under the formula and each operand."""
        self.tokens.append(token)
        for name, value in logprobs.items():
            self.logprobs.setdefault(name, []).append(value if self.ran(name) else math.nan)

    def ran(self, name: str) -> bool:
        """Whether there is a log-probability under this name: an operand of weight 0 does not run."""
        return name == FORMULA or self.names[name] in self.needed
