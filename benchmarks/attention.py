"""The attention of a call, timed where it happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from arith.runtime.backbones import quick_attention
from arith.runtime.backbones.grouped_attention import NAME, attention_of_one, grouped_attention
from arith.runtime.trial import Lap


@dataclass
class Attention:
    """The laps of attention: over the tokens of prompts, and over single tokens in steps."""

    prompts: list[Lap] = field(default_factory=list)
    steps: list[Lap] = field(default_factory=list)


@contextmanager
def timed_attention() -> Iterator[Attention]:
    """Within it, the attention of all backbones whose steps aren't compiled is timed."""
    spent = Attention()

    def timed(module: nn.Module, query: Tensor, *others: Any, **named: Any) -> tuple[Tensor, None]:
        lap = Lap(query.device)
        found = grouped_attention(module, query, *others, **named)
        lap.stop()
        (spent.steps if query.shape[2] == 1 else spent.prompts).append(lap)
        return found

    def timed_one(query: Tensor, *others: Any) -> Tensor:
        lap = Lap(query.device)
        found = attention_of_one(query, *others)
        lap.stop()
        spent.steps.append(lap)
        return found

    _use(timed, timed_one)
    try:
        yield spent
    finally:
        _use(grouped_attention, attention_of_one)


def _use(attention: Callable[..., tuple[Tensor, None]], of_one: Callable[..., Tensor]) -> None:
    """Let models' own code, and the code of ours in its place, call these."""
    AttentionInterface.register(NAME, attention)
    vars(quick_attention).update(grouped_attention=attention, attention_of_one=of_one)
