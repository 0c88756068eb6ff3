"""A lane: one operand's tokens for one row, at home in one backbone."""

from collections.abc import Mapping, Sequence
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
    logits its last `open`, `step` or `extend` gave, as far as it still has them (not to be changed).
    """

    adapter: str | None
    tokens: list[int]
    slot: int = field(default=-1, repr=False)
    early: Mapping[int, Tensor] = field(default_factory=dict, repr=False)

    def crop(self, length: int) -> None:
        """Forget the tokens beyond the first `length`."""
        dropped = len(self.tokens) - length
        del self.tokens[length:]
        self.early = {exit: states[: max(0, len(states) - dropped)] for exit, states in self.early.items()}


def check_tokens(lanes: Sequence[Lane], tokens: Sequence[Sequence[int]]) -> None:
    """Raises `ValueError` unless each lane has at least one new token."""
    if len(tokens) != len(lanes) or not all(map(len, tokens)):
        raise ValueError("each lane takes at least one token")


def check_lengths(lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
    """Raises `ValueError` unless each lane can be cropped to its length."""
    for lane, length in zip(lanes, lengths, strict=True):
        if not 0 <= length <= len(lane.tokens):
            raise ValueError(f"a lane of {len(lane.tokens)} tokens can't be cropped to {length}")


def new_positions(
    lanes: Sequence[Lane], order: Sequence[int], lengths: Sequence[int], width: int
) -> list[list[int]]:
    """The positions `[lanes, width]` of the tokens by which lanes, in this order, grow to these lengths; the
    last one once more where they are fewer."""
    return [[min(len(lanes[one].tokens) + at, lengths[one] - 1) for at in range(width)] for one in order]
