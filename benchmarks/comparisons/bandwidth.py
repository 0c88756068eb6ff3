"""What the machine's memory allows: every weight, key and value has to be read once a step."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from arith.operands.memory import MemoryEstimate
from arith.runtime.measuring import Figure, Target, in_turn
from arith.runtime.trial import synchronise
from benchmarks.subject import Extent, Subject

BYTES = 2**30
TARGET = Target("<=", 1 / 0.7)


def bandwidth(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A step of one row against the time in which the memory can be read that it has to read: weights, keys
    and values; the engine's own defaults, with the compiled steps of long runs where it makes them."""
    when = "on" if subject.device.type == "cuda" else "auto"
    for count in (1, 2):
        trial = subject.trial(subject.average(count, None), extent.tokens, compile=when)
        memory = trial.engine.plan.backbones[0].memory
        assert memory is not None
        context = trial.prompt_length() + extent.tokens // 2
        size = linear_bytes(subject, memory) + count * context * memory.kv_bytes_per_token
        ours, bound = in_turn(
            partial(trial.step_ms, 1), partial(reading_ms, size, subject.device), repeats=extent.repeats
        )
        case = f"N = {count}, B = 1, {size / 2**20:,.0f} MiB, {size / 1e6 / min(bound):,.0f} GB/s"
        target = TARGET if subject.device.type == "cuda" else None
        yield Figure.of("bandwidth bound", case, "ms a step", ours, bound, target)


def linear_bytes(subject: Subject, memory: MemoryEstimate) -> int:
    """The weights of all linear layers in the numbers that the engine keeps, in bytes: without what they are
    filled up with, and without embeddings, of which a step reads a few rows."""
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(subject.config())
    count = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    return count * (torch.float16 if memory.half else memory.dtype).itemsize


def reading_ms(size: int, device: torch.device) -> float:
    """Milliseconds in which so many bytes can be read: as fast as a gibibyte is copied, which reads it and
    writes it."""
    source = torch.ones(BYTES // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = []
    for _ in range(5):
        synchronise(device)
        started = time.perf_counter()
        target.copy_(source)
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 1e3 * min(seconds) * size / (2 * BYTES)
