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


def check_tokens(
    lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None
) -> list[int]:
    """How many of each lane's new tokens logits are wanted after, by default all. Raises `ValueError` unless
    each lane has at least one new token, and one to keep."""
    if len(tokens) != len(lanes) or not all(map(len, tokens)):
        raise ValueError("each lane takes at least one token")
    counts = [len(own) for own in tokens]
    if keep is None:
        return counts
    if len(keep) != len(counts) or not all(1 <= kept <= n for kept, n in zip(keep, counts, strict=True)):
        raise ValueError("each lane keeps the logits of one of its new tokens at least, and of all at most")
    return list(keep)


def check_lengths(lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
    """Raises `ValueError` unless each lane can be cropped to its length."""
    for lane, length in zip(lanes, lengths, strict=True):
        if not 0 <= length <= len(lane.tokens):
            raise ValueError(f"a lane of {len(lane.tokens)} tokens can't be cropped to {length}")


def new_positions(lanes: Sequence[Lane], counts: Sequence[int]) -> list[list[int]]:
    """The positions `[lanes, most]` of as many new tokens as each lane gets; the last one once more where
    these are fewer than the most."""
    most = max(counts)
    return [
        [len(lane.tokens) + min(at, count - 1) for at in range(most)]
        for lane, count in zip(lanes, counts, strict=True)
    ]
