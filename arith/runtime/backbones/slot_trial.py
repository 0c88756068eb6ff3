"""A trial of a part of a model over slots: some tokens of two lanes, and then one more of each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.decoder import hidden_states
from arith.runtime.backbones.masks import FULL, MaskLayout

LANES, TOKENS = 2, 3


def over_slots(part: Callable[..., Any], hidden: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    """The states `[LANES, n, hidden]` that a layer, or its attention, gives for drawn ones; `size` is that of
    its heads."""
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache()
    cache.reserve(LANES, TOKENS + 1)
    found = []
    for start, stop in ((0, TOKENS), (TOKENS, TOKENS + 1)):
        positions = torch.arange(start, stop).expand(LANES, -1)
        states = torch.randn(*positions.shape, hidden, generator=generator).to(dtype)
        angles = torch.randn(*positions.shape, size // 2, generator=generator).repeat(1, 1, 2)
        cache.place(torch.arange(LANES), positions, slice(0, LANES, 1), stop)
        output = part(
            states,
            position_embeddings=(angles.cos().to(dtype), angles.sin().to(dtype)),
            attention_mask=MaskLayout({FULL: None}).build(positions, stop, dtype),
            past_key_values=cache,
        )
        found.append(hidden_states(output))
    return found
