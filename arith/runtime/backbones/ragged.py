"""Different numbers of new tokens for each lane in one forward, without padding but in attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """How tokens that stand one behind another, `[1, tokens]`, belong to lanes.

    `padded` `[lanes, width]` are the tokens of each lane, by number, the last one repeated up to the width;
    `places` `[tokens]` says where each token stands in it, the lanes' places taken as one list. A lane's keys
    are all that a token may see of others, so linear layers, norms and activations need know nothing of this.
    """

    padded: Tensor
    places: Tensor

    @classmethod
    def of(cls, counts: Sequence[int], order: Sequence[int], device: torch.device) -> "Ragged":
        """For lanes with so many tokens each, which attention sees in this order."""
        starts = [0, *accumulate(counts)]
        width = max(counts)
        padded = [[starts[one] + min(at, counts[one] - 1) for at in range(width)] for one in order]
        row = {one: number for number, one in enumerate(order)}
        places = [row[one] * width + at for one, count in enumerate(counts) for at in range(count)]
        return cls(torch.tensor(padded, device=device), torch.tensor(places, device=device))

    def pad(self, states: Tensor) -> Tensor:
        """`[1, heads, tokens, size]` to `[lanes, heads, width, size]`."""
        return states[0].transpose(0, 1)[self.padded.to(states.device)].transpose(1, 2)

    def unpad(self, states: Tensor) -> Tensor:
        """`[lanes, width, heads, size]` to `[1, tokens, heads, size]`."""
        return states.flatten(0, 1)[self.places.to(states.device)][None]
