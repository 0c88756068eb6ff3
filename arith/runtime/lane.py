"""A lane: one operand's tokens for one row, at home in one backbone."""

from dataclasses import dataclass, field


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
    """

    adapter: str | None
    tokens: list[int]
    slot: int = field(default=-1, repr=False)
