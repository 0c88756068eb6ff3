"""Rows on their way in: what they have to read before their first step, run slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass

from arith.operands.llm import LLM
from arith.runtime.backbones.backbone import Backbone, Opening
from arith.runtime.row import Row


@dataclass(frozen=True, eq=False)
class Arrival:
    """`openings` holds for each backbone whose lanes it opens, by the numbers of their rows and operands."""

    rows: Sequence[Row]
    openings: Sequence[tuple[Backbone, Sequence[tuple[int, LLM]], Opening]]

    def advance(self, budget: int | None) -> bool:
        """Runs about `budget` tokens (None: all that are left); whether that was all."""
        done = True
        for _, _, opening in self.openings:
            done &= bool(opening.logits) or opening.advance(budget)  # one that is done has its logits
        return done

    def cancel(self) -> None:
        """Opens none of the lanes."""
        for backbone, _, opening in self.openings:
            if opening.logits:
                backbone.close(opening.lanes)
            else:
                opening.cancel()
