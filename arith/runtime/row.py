"""A row: one sequence, with its prompt, sample index, parameter values and random stream."""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import LLM
from arith.operands.prompts import Prompt
from arith.runtime.backbones.lane import Lane
from arith.runtime.result import FORMULA, FinishReason, Result

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from arith.runtime.ending import Ending


@dataclass(eq=False)
class Row:
    """One sequence being generated. `prompt_ids` holds its prompt as each operand reads it."""

    index: int
    sample: int
    place: str  # how an error names it
    prompt: Prompt
    prompt_ids: Mapping[LLM, tuple[int, ...]]
    values: Mapping[str, float]
    needed: frozenset[LLM | GuideOperand]  # the operands whose weight is not exactly 0
    names: Mapping[str, LLM]  # of all the formula's operands, classifiers aside
    key: int
    drafting: frozenset[LLM | GuideOperand] = frozenset()  # the operands that draft for it
    draft_vocabulary: int = sys.maxsize  # how many tokens all of these know
    ending: "Ending" = field(init=False)  # of a row that is generated
    tokens: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)  # those that it was given last, at once
    guarded: bool = False  # whether tokens may be taken back again
    settled: int = 0  # how many of a guarded row's tokens can't be, while it is being written
    shown: int = 0  # how many of them were released
    bans: dict[int, set[int]] = field(default_factory=dict)  # by step
    rewinds: int = 0  # how often it went back
    logprobs: dict[str, list[float]] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)  # of the log-probabilities, NaN counting 0
    lanes: dict[LLM, Lane] = field(default_factory=dict)
    finish_reason: FinishReason | None = None
    queued: float = field(default_factory=time.perf_counter)
    started: float = math.nan
    prefilled: float = math.nan
    ended: float = math.nan

    @property
    def prompt_length(self) -> int:
        """Tokens of its prompt, as the first operand reads it."""
        return len(self.prompt_ids[next(iter(self.names.values()))])

    @property
    def longest_prompt(self) -> int:
        """Tokens of its prompt, as the operand reads it for which it is longest."""
        return max(map(len, self.prompt_ids.values()), default=0)

    @property
    def length(self) -> int:
        """Tokens of its longest lane: of its prompt, and those it has got."""
        return self.longest_prompt + len(self.tokens)

    @cached_property
    def reads(self) -> frozenset[LLM]:
        """The models that its formula needs, guides aside."""
        return frozenset(one for one in self.needed if isinstance(one, LLM))

    @property
    def runs(self) -> frozenset[LLM]:
        """The models that run for it, those of drafts included."""
        return self.reads.union(one for one in self.drafting if isinstance(one, LLM))

    def append(self, token: int, logprobs: Mapping[str, float]) -> None:
        """Takes the next token, with its log-probability under the formula and each operand."""
        self.tokens.append(token)
        self.fresh.append(token)
        if token >= self.draft_vocabulary:
            self.drafting = frozenset()  # which could not read the text any more
        for name, value in logprobs.items():
            ran = self.ran(name)
            self.logprobs[name].append(value if ran else math.nan)
            self.totals[name] += value if ran else 0.0

    def shorten(self, count: int) -> None:
        """Takes back all tokens but the first `count`."""
        del self.tokens[count:]
        for name, values in self.logprobs.items():
            del values[count:]
            self.totals[name] = sum((value for value in values if not math.isnan(value)), start=0.0)

    def go_back(self, step: int) -> None:
        """Takes back the tokens from a step on, where the first of them is banned from now on."""
        self.bans = {at: banned for at, banned in self.bans.items() if at <= step}
        self.bans.setdefault(step, set()).add(self.tokens[step])
        self.shorten(step)
        self.rewinds += 1
        self.finish_reason = None

    def release(self) -> list[int]:
        """The tokens that came since the last call, as far as they stay."""
        certain = not self.guarded or self.finish_reason is not None
        released = self.tokens[self.shown : len(self.tokens) if certain else self.settled]
        self.shown += len(released)
        return released

    def enter(self) -> None:
        """Notes when it began to be read; once, if it had to leave again for want of memory. It comes back
        without its draft if its text has left the windows of the operands that draft."""
        if len(self.tokens) > self.ending.most_drafted:
            self.drafting = frozenset()
        if math.isnan(self.started):
            self.started = time.perf_counter()

    def arrive(self) -> None:
        """Notes when its prompt was read."""
        if math.isnan(self.prefilled):
            self.prefilled = time.perf_counter()

    def leave(self) -> None:
        """Notes when it ended."""
        self.ended = time.perf_counter()

    def ran(self, name: str) -> bool:
        """Whether there is a log-probability under this name: an operand of weight 0 does not run."""
        return name == FORMULA or self.names[name] in self.needed

    def result(self, seed: int, tokenizer: "PreTrainedTokenizerBase") -> Result:
        """The finished row as a caller gets it; `tokenizer` writes its text."""
        assert self.finish_reason is not None
        text = tokenizer.decode(self.tokens, skip_special_tokens=True)
        assert isinstance(text, str)
        return Result(
            index=self.index,
            sample=self.sample,
            prompt=self.prompt,
            seed=seed,
            text=text,
            token_ids=self.tokens,
            finish_reason=self.finish_reason,
            logprobs=self.logprobs,
            timings={
                "queued": self.started - self.queued,
                "prefill": self.prefilled - self.started,
                "decode": self.ended - self.prefilled,
            },
        )
