"""A lane: one operand's tokens for one row, at home in one backbone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LaneRequest:
    """Asks a backbone for a new lane over `tokens` (at least one), run with `adapter` (None: the bare base).

    The logits of the last `keep` positions are wanted, 1 <= keep <= len(tokens).
    """

    adapter: str | None
    tokens: tuple[int, ...]
    keep: int = 1


@dataclass(eq=False)
class Lane:
    """An open lane. Only its backbone changes it.

    `tokens` are all tokens whose keys and values are in the cache, `slot` is its row in the pool.
    `early` maps each early exit of the backbone to the hidden states `[keep, hidden]` at the positions whose
    logits its last `open` or `step` gave (not to be changed).
    """

    adapter: str | None
    tokens: list[int]
    slot: int = field(default=-1, repr=False)
    early: Mapping[int, Tensor] = field(default_factory=dict, repr=False)
