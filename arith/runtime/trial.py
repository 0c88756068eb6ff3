"""What is timed: a call of an engine, and plain forwards of the models that it runs."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from arith.operands.half_linear import HalfLinear
from arith.operands.llm import LLM
from arith.operands.prompts import Prompt
from arith.runtime.backbones.backbone import Backbone
from arith.runtime.engine import Engine
from arith.runtime.row import Row


@dataclass(frozen=True)
class Timing:
    """One call: all its `seconds`, those after the prompts were in (`decoding`), the `steps` of its longest
    row after the first token, and the `tokens` of all rows."""

    seconds: float
    decoding: float
    steps: int
    tokens: int

    @property
    def step_ms(self) -> float:
        """Milliseconds for one more token of every row."""
        return 1e3 * self.decoding / max(self.steps, 1)

    @property
    def rate(self) -> float:
        """Tokens a second of all rows together, prompts included."""
        return self.tokens / self.seconds


class Trial:
    """Calls of one engine, in which no row ends before it has all its tokens, unless its formula or context
    window says so."""

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        tokens: int,
        params: Mapping[str, float] | None = None,
    ):
        self.engine = engine
        self.prompts = prompts
        self.tokens = tokens
        self.params = params
        ends = engine.runner.models.end_ids
        ends.update(dict.fromkeys(ends, frozenset()))

    def run(self, rows: int, **options: Any) -> Timing:
        """A call with so many rows: the prompts in turn. `options` are those of `Engine.generate`."""
        prompts = list(islice(cycle(self.prompts), rows))
        limits = {"max_new_tokens": self.tokens, "num_return_sequences": 1, "stop_strings": ()}
        synchronise(self.engine.device)
        started = time.perf_counter()
        results = self.engine.generate(prompts, params=self.params, **{**limits, **options})
        seconds = time.perf_counter() - started
        return Timing(
            seconds,
            max(one.timings["decode"] for one in results),
            max(len(one.token_ids) for one in results) - 1,
            sum(len(one.token_ids) for one in results),
        )

    def step_ms(self, rows: int, **options: Any) -> float:
        """Milliseconds a step of a call with so many rows."""
        return self.run(rows, **options).step_ms

    def rate(self, rows: int, **options: Any) -> float:
        """Tokens a second of a call with so many rows."""
        return self.run(rows, **options).rate

    def lanes(self) -> dict[Backbone, list[LLM]]:
        """The operands that run for the first prompt, by their backbone."""
        runs = self._row(self.prompts[0]).runs
        found: dict[Backbone, list[LLM]] = {}
        for operand, backbone in self.engine.runner.models.backbones.items():
            if operand in runs:
                found.setdefault(backbone, []).append(operand)
        return found

    def prompt_length(self) -> int:
        """The most tokens of a prompt."""
        return max(len(ids) for prompt in self.prompts for ids in self._row(prompt).prompt_ids.values())

    def plain_step_ms(self, rows: int) -> float:
        """Milliseconds that plain forwards take for a step: of each backbone over as many lanes as the engine
        has, with transformers' own cache, without adapters."""
        length, steps = self.prompt_length(), self.tokens - 1
        counts = [(backbone, rows * len(own)) for backbone, own in self.lanes().items()]
        return sum(
            forwards_ms(bare_model(one, count), count, length, steps, cached=one.slower is None)
            for one, count in counts
        )

    def run_and_forwards_ms(self, rows: int) -> tuple[Timing, float]:
        """A call with so many rows, and the milliseconds of each of its steps that forwards took, those of
        drafts included. Measured in one call, so that both had the same machine."""
        backbones = dict.fromkeys(self.engine.runner.models.backbones.values())
        with timed_forwards(list(backbones)) as forwards:
            timing = self.run(rows)
        return timing, 1e3 * seconds_of(forwards) / max(timing.steps, 1)

    def weight_bytes(self) -> int:
        """The memory of the language models' weights, in bytes."""
        return weight_bytes(*map(bare_model, dict.fromkeys(self.engine.runner.models.backbones.values())))

    def cache_bytes(self) -> int:
        """The memory of a row's keys and values at its end, in bytes, as the plan tells it."""
        length = self.prompt_length() + self.tokens
        return sum(
            length * len(one.lanes) * one.memory.kv_bytes_per_token
            for one in self.engine.plan.backbones
            if one.memory is not None
        )

    def _row(self, prompt: Prompt) -> Row:
        return self.engine.runner.rows.to_generate([prompt], self.params, 1, 0)[0]


@torch.inference_mode()
def forwards_ms(model: PreTrainedModel, lanes: int, length: int, steps: int, *, cached: bool = True) -> float:
    """Milliseconds for each of `steps` plain forwards of one more token of `lanes` texts, which have `length`
    tokens before: with transformers' own cache, or of one whole text at a time."""
    ids = torch.arange(length, device=model.device)[None] % model.config.get_text_config().vocab_size
    if cached:
        cache = model(input_ids=ids, use_cache=True).past_key_values
        cache.batch_repeat_interleave(lanes)
    ids = ids.expand(lanes, -1)
    synchronise(model.device)
    started = time.perf_counter()
    for _ in range(steps):
        if cached:
            model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True)
        else:
            ids = torch.cat([ids, ids[:, -1:]], dim=1)
            for text in ids:
                model(input_ids=text[None])
    synchronise(model.device)
    return 1e3 * (time.perf_counter() - started) / steps


class Lap:
    """The time of what a device does between `Lap(device)` and `stop()`. On CUDA the device notes it, and the
    host doesn't wait for that before `seconds` are asked for."""

    def __init__(self, device: torch.device):
        self._device = device
        self._started = self._mark()
        self._stopped = self._started

    def stop(self) -> None:
        """The end."""
        self._stopped = self._mark()

    @property
    def seconds(self) -> float:
        """How long it took."""
        if isinstance(self._started, float):
            return float(self._stopped - self._started)
        self._stopped.synchronize()
        return float(self._started.elapsed_time(self._stopped)) / 1e3

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            synchronise(self._device)
            return time.perf_counter()
        event = cast(Any, torch.cuda).Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def seconds_of(laps: Iterable[Lap]) -> float:
    """How long they took together."""
    return sum(lap.seconds for lap in laps)


@contextmanager
def timed_forwards(backbones: Sequence[Backbone]) -> Iterator[list[Lap]]:
    """Within it, a lap of each forward of these backbones comes to stand in the list it gives, but for those
    that read prompts."""
    laps: list[Lap] = []

    def timed(backbone: Backbone, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed_run(*arguments: Any) -> Any:
            before, lap = len(laps), Lap(backbone.device)
            found = run(*arguments)
            lap.stop()
            del laps[before:]  # those of forwards within this one
            laps.append(lap)
            return found

        return timed_run

    for backbone in backbones:
        vars(backbone).update(step=timed(backbone, backbone.step), extend=timed(backbone, backbone.extend))
    try:
        yield laps
    finally:
        for backbone in backbones:
            del vars(backbone)["step"], vars(backbone)["extend"]


def bare_model(backbone: Backbone, lanes: int = 1) -> PreTrainedModel:
    """The backbone's own model, for which there may be no second place in memory, to be run over so many
    lanes that have no adapter (where it can be told to use none)."""
    if None in backbone.adapters.known:
        backbone.adapters.select([None] * lanes, 1)
    return backbone.model


def weight_bytes(*models: nn.Module) -> int:
    """The memory of all weights and buffers, in bytes; what several share counts once."""
    tensors = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    layers = {part for model in models for part in model.modules() if isinstance(part, HalfLinear)}
    packed = sum(one.nbytes for one in layers) + sum(one.nbytes for one in tensors if one.is_mkldnn)
    held = [tensor.untyped_storage() for tensor in tensors if not tensor.is_mkldnn]
    return packed + sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
