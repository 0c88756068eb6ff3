"""A trial of a layer, or its attention, over slots: some tokens of two lanes, and then one more of each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import FULL, MaskLayout
from arith.runtime.backbones.own_forward import gives_the_same

_LANES, _TOKENS = 2, 3


def same_over_slots(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    lanes: LaneAdapters,
    hidden: int,
    size: int,
    dtype: torch.dtype,
) -> bool:
    """Whether both give the same for drawn states `[lanes, n, hidden]`, with heads of this size. The lanes
    have an adapter if there is any."""
    results = (partial(_over_slots, part, lanes, hidden, size, dtype) for part in (ours, theirs))
    return gives_the_same(*results)


@torch.inference_mode()
def _over_slots(
    part: Callable[..., Any], lanes: LaneAdapters, hidden: int, size: int, dtype: torch.dtype
) -> list[Any]:
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
