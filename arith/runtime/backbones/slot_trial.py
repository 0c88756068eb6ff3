"""A trial of a model, a layer, or its attention, over slots: some tokens of two lanes, and then one more of
each."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import FULL, MaskLayout
from arith.runtime.backbones.own_forward import gives_the_same

Given = Callable[[Tensor, Generator], Mapping[str, Any]]
"""Positions `[lanes, n]` to what is given for them, besides the cache; what of it is drawn, by this."""

_LANES, _TOKENS = 2, 3


def same_over_slots(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    lanes: LaneAdapters,
    given: Given,
    device: torch.device | str = "cpu",
) -> bool:
    """Whether both give the same for what is given. The lanes have an adapter if there is any."""
    return gives_the_same(*(partial(_over_slots, part, lanes, given, device) for part in (ours, theirs)))


def drawn_states(hidden: int, size: int, dtype: torch.dtype) -> Given:
    """States `[lanes, n, hidden]`, and angles for heads of this size, as layers are given them."""

    def given(positions: Tensor, generator: Generator) -> Mapping[str, Any]:
        states = torch.randn(*positions.shape, hidden, generator=generator).to(dtype)
        angles = torch.randn(*positions.shape, size // 2, generator=generator).repeat(1, 1, 2)
        return {
            "hidden_states": states,
            "position_embeddings": (angles.cos().to(dtype), angles.sin().to(dtype)),
            "attention_mask": MaskLayout({FULL: None}).build(positions, int(positions.max()) + 1, dtype),
        }

    return given


@torch.inference_mode()
def _over_slots(
    part: Callable[..., Any], lanes: LaneAdapters, given: Given, device: torch.device | str
) -> list[Any]:
    generator = Generator().manual_seed(0)
    cache = SlotCache()
    cache.reserve(_LANES, _TOKENS + 1)
    found = []
    for start, stop in ((0, _TOKENS), (_TOKENS, _TOKENS + 1)):
        lanes.select([lanes.any_adapter] * _LANES, stop - start)
        positions = torch.arange(start, stop, device=device).expand(_LANES, -1)
        cache.place(torch.arange(_LANES, device=device), positions, slice(0, _LANES, 1), stop)
        found.append(part(**given(positions, generator), past_key_values=cache))
    return found
