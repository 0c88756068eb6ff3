"""Outputs: what a forward gives at the positions that were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Logits `[..., vocabulary]`, and for each early exit the hidden states `[..., hidden]` behind them."""

    logits: Tensor
    early: Mapping[int, Tensor] = field(default_factory=dict)

    def __getitem__(self, index: int | slice) -> "Outputs":
        """The outputs of some positions, indexed by their first dimension."""
        return Outputs(self.logits[index], {exit: states[index] for exit, states in self.early.items()})

    @classmethod
    def join(cls, pieces: Sequence["Outputs"]) -> "Outputs":
        """The positions of all pieces (at least one, of the same exits) along their first dimension."""
        if len(pieces) == 1:
            return pieces[0]
        early = {exit: torch.cat([piece.early[exit] for piece in pieces]) for exit in pieces[0].early}
        return cls(torch.cat([piece.logits for piece in pieces]), early)
