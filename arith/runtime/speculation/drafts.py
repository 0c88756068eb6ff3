"""Drafts: tokens that a row may take next, guessed more cheaply than its formula tells them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Leaf, Moment
from arith.runtime.fusion import Fusion
from arith.runtime.lanes import Lanes, LeafLogits, Reading
from arith.runtime.row import Row
from arith.runtime.sampling.choice import TokenChoice

LONGEST_MATCH = 3  # tokens at the end of a row that are looked for earlier in it


@dataclass
class Proposal:
    """A row's drafted tokens, and what operands that took part in drafting said before each of them."""

    tokens: list[int] = field(default_factory=list)
    known: dict[Leaf, list[Tensor]] = field(default_factory=dict)

    def reading(self, row: Row) -> Reading:
        """What has to be read to check the tokens: one position more than there are tokens, unless operands
        of the formula have drafted: what they say behind the last token would take a forward more."""
        drafters = {operand for operand, _ in self.known}
        count = len(self.tokens) + (0 if drafters & row.needed else 1)
        return Reading(row, row.needed - drafters, self.tokens[: count - 1], count)


def with_known(logits: LeafLogits, readings: Sequence[Reading], proposals: Sequence[Proposal]) -> LeafLogits:
    """The logits that were read, and those that are known from drafting, at all positions of the readings."""
    starts = [0, *accumulate(reading.count for reading in readings)]
    places: dict[Leaf, list[int]] = {}
    parts: dict[Leaf, list[Tensor]] = {}
    for start, reading, proposal in zip(starts, readings, proposals, strict=False):
        for leaf, known in proposal.known.items():
            if leaf[0] in reading.row.needed:
                places.setdefault(leaf, []).extend(range(start, start + reading.count))
                parts.setdefault(leaf, []).extend(known)
    merged = dict(logits)
    for leaf, chosen in places.items():
        before, read = logits.get(leaf, ([], None))
        stacked = torch.stack(parts[leaf])
        merged[leaf] = ([*before, *chosen], stacked if read is None else torch.cat([read, stacked]))
    return merged


class Draft(Protocol):
    """Proposes tokens for rows, at most as many as each has room for."""

    def propose(self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes) -> list[Proposal]: ...


class FormulaDraft:
    """Another formula: its operands run token by token, and choose with the row's own random numbers."""

    def __init__(self, fusion: Fusion, choice: TokenChoice):
        self.fusion = fusion
        self.choice = choice

    def propose(self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes) -> list[Proposal]:
        proposals = [Proposal() for _ in rows]
        for drafted in range(max(room, default=0)):
            going = [n for n, most in enumerate(room) if most > drafted]
            readings = [Reading(rows[n], rows[n].drafting, proposals[n].tokens) for n in going]
            logits = lanes.read(readings)
            for leaf, (chosen, part) in logits.items():
                for at, one in zip(chosen, part, strict=True):
                    proposals[going[at]].known.setdefault(leaf, []).append(one)
            moments = [
                Moment(rows[n], [*rows[n].tokens, *proposals[n].tokens], rows[n].totals) for n in going
            ]
            fused = self.fusion.evaluate(moments, self.fusion.spread(logits, len(going)))
            tokens = self.choice(moments, fused.log_probs).tokens.tolist()
            for n, token in zip(going, tokens, strict=True):
                proposals[n].tokens.append(token)
        return proposals


class PromptLookup:
    """What followed the last time the row's last tokens stood in its prompt or its own text (Saxena 2023)."""

    def __init__(self, first_operand: LLM):
        self.first_operand = first_operand

    def propose(self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes) -> list[Proposal]:
        return [Proposal(self._continuation(row, most)) for row, most in zip(rows, room, strict=True)]

    def _continuation(self, row: Row, most: int) -> list[int]:
        text = [*row.prompt_ids[self.first_operand], *row.tokens]
        for length in range(min(LONGEST_MATCH, len(text) - 1), 0, -1):
            ending = text[-length:]
            for start in range(len(text) - length - 1, -1, -1):
                if text[start : start + length] == ending:
                    return text[start + length : start + length + most]
        return []
