"""Different numbers of new tokens for each lane in one forward, without padding but in attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from arith.runtime.sending import send


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
    def of(cls, counts: Sequence[int], device: torch.device) -> "Ragged":
        """For lanes with so many tokens each."""
        width = max(counts)
        starts = [0, *accumulate(counts)]
        padded = [
            [start + min(at, count - 1) for at in range(width)]
            for start, count in zip(starts, counts, strict=False)
        ]
        places = [row * width + at for row, count in enumerate(counts) for at in range(count)]
        return cls(send(padded, device), send(places, device))

    def pad(self, states: Tensor) -> Tensor:
        """`[1, heads, tokens, size]` to `[lanes, heads, width, size]`."""
        return states[0].transpose(0, 1)[self.padded.to(states.device)].transpose(1, 2)

    def unpad(self, states: Tensor) -> Tensor:
        """`[lanes, width, heads, size]` to `[1, tokens, heads, size]`."""
        return states.flatten(0, 1)[self.places.to(states.device)][None]
