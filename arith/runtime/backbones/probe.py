"""A small trial at start: does a model give the same logits over slots as in a plain forward?"""

import torch
from torch import Tensor

from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.lane import LaneRequest
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.rounding import agree
from arith.runtime.backbones.slots import SlotBackbone

# Much longer and much shorter: whoever ignores a mask sees many keys that aren't the lane's own.
_LONG, _SHORT = 24, 3


def disagreement(
    slots: SlotBackbone, plain: RecomputeBackbone, adapter: str | None, vocabulary: int
) -> str | None:
    """Why `slots` can't be used, found by a ragged prefill and a step of two lanes; None when all is well."""
    room = _LONG if slots.context is None else min(_LONG, slots.context - 1)
    try:
        found = _trial(slots, adapter, vocabulary, room)
    except MISFITS as error:
        return f"its code doesn't take our KV cache ({misfit(error)})"
    finally:
        slots.reset()
        slots.stats.reset()
    expected = _trial(plain, adapter, vocabulary, room)
    if agree(found, expected):
        return None
    return "its logits over our KV cache differ from those of a plain forward"


def runs_ragged(slots: SlotBackbone, plain: RecomputeBackbone, adapter: str | None, vocabulary: int) -> bool:
    """Whether `slots`, made to run tokens of all lanes one behind another, gives the right logits so."""
    room = _LONG if slots.context is None else min(_LONG, slots.context)
    try:
        found = _ragged_trial(slots, adapter, vocabulary, room)
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return False
    finally:
        slots.reset()
        slots.stats.reset()
    return agree(found, _ragged_trial(plain, adapter, vocabulary, room))


def _ragged_trial(
    backbone: SlotBackbone | RecomputeBackbone, adapter: str | None, vocabulary: int, room: int
) -> Tensor:
    tokens = [at % vocabulary for at in range(room)]
    requests = [LaneRequest(adapter, tuple(tokens[:_SHORT])), LaneRequest(adapter, tuple(tokens[:1]))]
    lanes, _ = backbone.open(requests)
    return torch.cat(backbone.extend(lanes, [tokens[-1:], tokens[1:room]]))


def _trial(
    backbone: SlotBackbone | RecomputeBackbone, adapter: str | None, vocabulary: int, room: int
) -> Tensor:
    tokens = [at % vocabulary for at in range(2 * room)]
    lanes, logits = backbone.open(
        [LaneRequest(adapter, tuple(part)) for part in (tokens[:room], tokens[-_SHORT:])]
    )
    return torch.cat([*logits, backbone.step(lanes, tokens[:2])])
