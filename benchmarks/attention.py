"""The attention of a call, timed where it happens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from arith.runtime.backbones.grouped_attention import NAME, grouped_attention
from arith.runtime.trial import synchronise


@dataclass
class Attention:
    """Seconds that attention took: over the tokens of prompts, and over single tokens in steps."""

    prompts: float = 0.0
    steps: float = 0.0


@contextmanager
def timed_attention() -> Iterator[Attention]:
    """Within it, the attention of all backbones whose steps aren't compiled is added up."""
    spent = Attention()

    def timed(module: nn.Module, query: Tensor, *others: Any, **named: Any) -> tuple[Tensor, None]:
        synchronise(query.device)
        started = time.perf_counter()
        found = grouped_attention(module, query, *others, **named)
        synchronise(query.device)
        seconds = time.perf_counter() - started
        if query.shape[2] == 1:
            spent.steps += seconds
        else:
            spent.prompts += seconds
        return found

    AttentionInterface.register(NAME, timed)
    try:
        yield spent
    finally:
        AttentionInterface.register(NAME, grouped_attention)
