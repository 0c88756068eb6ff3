"""A trial of a part of a model over slots: some tokens of two lanes, and then one more of each."""

from collections.abc import Callable
from typing import Any

import torch

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import FULL, MaskLayout

_LANES, _TOKENS = 2, 3


@torch.inference_mode()
def over_slots(
    part: Callable[..., Any], lanes: LaneAdapters, hidden: int, size: int, dtype: torch.dtype
) -> list[Any]:
    """What a layer, or its attention, gives for drawn states `[lanes, n, hidden]`; `size` is that of its
    heads. The lanes have an adapter if there is any."""
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache()
    cache.reserve(_LANES, _TOKENS + 1)
    found = []
    for start, stop in ((0, _TOKENS), (_TOKENS, _TOKENS + 1)):
        lanes.select([lanes.any_adapter] * _LANES, stop - start)
        positions = torch.arange(start, stop).expand(_LANES, -1)
        states = torch.randn(*positions.shape, hidden, generator=generator).to(dtype)
        angles = torch.randn(*positions.shape, size // 2, generator=generator).repeat(1, 1, 2)
        cache.place(torch.arange(_LANES), positions, slice(0, _LANES, 1), stop)
        output = part(
            states,
            position_embeddings=(angles.cos().to(dtype), angles.sin().to(dtype)),
            attention_mask=MaskLayout({FULL: None}).build(positions, stop, dtype),
            past_key_values=cache,
        )
        found.append(output)
    return found
