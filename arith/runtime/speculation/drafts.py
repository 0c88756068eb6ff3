"""Drafts: tokens that a row may take next, guessed more cheaply than its formula tells them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.operands.llm import LLM
from arith.runtime.answers import Leaf, Moment
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.decision import decide
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.lanes import Lanes, LeafLogits, Reading
from arith.runtime.result import FORMULA
from arith.runtime.row import Row
from arith.runtime.sampling.choice import TokenChoice
from arith.runtime.speculation.pace import Pace
from arith.runtime.speculation.places import Places

LONGEST_MATCH = 4  # tokens at the end of a row that are looked for earlier in it
BANDS = 5  # of the probability that a draft gives its token


@dataclass
class Proposal:
    """A row's drafted tokens, how sure the draft is of each (tokens of one grade are about equally likely to
    be kept), and what operands that took part in drafting said before each of them."""

    tokens: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)
    known: dict[Leaf, list[Tensor]] = field(default_factory=dict)

    def keep(self, count: int) -> None:
        """Drops the tokens behind the first `count`."""
        del self.tokens[count:], self.grades[count:]

    def reading(self, row: Row) -> Reading:
        """What has to be read to check the tokens: one position more than there are tokens, unless operands
        of the formula have drafted: what they say behind the last token would take a forward more."""
        drafters = {operand for operand, _ in self.known}
        count = len(self.tokens) + 1
        if drafters & row.needed:
            count = min(count, *map(len, self.known.values()))
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
                parts.setdefault(leaf, []).extend(known[: reading.count])
    merged = dict(logits)
    for leaf, chosen in places.items():
        before, read = logits.get(leaf, ([], None))
        stacked = torch.stack(parts[leaf])
        merged[leaf] = ([*before, *chosen], stacked if read is None else torch.cat([read, stacked]))
    return merged


class Draft(Protocol):
    """Proposes tokens for rows, at most as many as each has room for, and those that are worth it."""

    def propose(
        self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes, pace: Pace
    ) -> list[Proposal]: ...


class FormulaDraft:
    """Another formula: its operands run token by token, and choose with the row's own random numbers. A token
    is graded by its probability."""

    def __init__(self, fusion: Fusion, choice: TokenChoice):
        self.fusion = fusion
        self.choice = choice

    def propose(self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes, pace: Pace) -> list[Proposal]:
        proposals = [Proposal() for _ in rows]
        # A row whose text the operands that draft can't read has none of them.
        going = [n for n, row in enumerate(rows) if row.drafting or not self.fusion.operands]
        for drafted in range(min(pace.most, max(room, default=0))):
            going = [n for n in going if room[n] > drafted and _reads(rows[n], proposals[n])]
            worth = pace.worth_drafting([proposals[n].grades for n in going])
            going = [n for n, pays in zip(going, worth, strict=True) if pays]
            if not going:
                break
            started = time.perf_counter()
            try:
                self._draft(rows, proposals, going, lanes)
            except Exception as error:
                # It has no value there, or a caller's processor no answer: the draft ends, and nothing else.
                asked = self.choice.asks_the_caller or any(proposals[n].tokens for n in going)
                if out_of_memory(error) or not (asked or isinstance(error, EvaluationError)):
                    raise
                break
            pace.note_drafting(time.perf_counter() - started)
        _keep_worthwhile(proposals, pace)
        return proposals

    def _draft(
        self, rows: Sequence[Row], proposals: Sequence[Proposal], going: Sequence[int], lanes: Lanes
    ) -> None:
        """One token more for the rows that go on."""
        readings = [Reading(rows[n], rows[n].drafting, proposals[n].tokens) for n in going]
        logits = lanes.read(readings)
        for leaf, (chosen, part) in logits.items():
            for at, one in zip(chosen, part, strict=True):
                proposals[going[at]].known.setdefault(leaf, []).append(one)
        moments = [Moment(rows[n], [*rows[n].tokens, *proposals[n].tokens], rows[n].totals) for n in going]
        spread = self.fusion.spread(logits, len(going))
        decision = decide(self.fusion, self.choice, moments, spread, Fused.of_formula)
        for n, token, chance in zip(going, decision.tokens, decision.figures[FORMULA], strict=True):
            proposals[n].tokens.append(token)
            proposals[n].grades.append(min(int(math.exp(chance) * BANDS), BANDS - 1))


class PromptLookup:
    """What followed where the row's last tokens stood before, in its prompt or its own text (Saxena 2023):
    where most of them did, and of several such places at the last. A token is graded by how many agreed
    before it."""

    def __init__(self, first_operand: LLM, vocabulary: int):
        """Tokens of the prompt beyond the common `vocabulary` aren't proposed."""
        self.first_operand = first_operand
        self.vocabulary = vocabulary
        self._places: WeakKeyDictionary[Row, Places] = WeakKeyDictionary()

    def propose(self, rows: Sequence[Row], room: Sequence[int], lanes: Lanes, pace: Pace) -> list[Proposal]:
        proposals = [
            self._continuation(row, min(most, pace.most)) for row, most in zip(rows, room, strict=True)
        ]
        _keep_worthwhile(proposals, pace)
        return proposals

    def _continuation(self, row: Row, most: int) -> Proposal:
        if most <= 0:
            return Proposal()
        text = [*row.prompt_ids[self.first_operand], *row.tokens]
        agreed, after = self._places.setdefault(row, Places(LONGEST_MATCH)).last(text, row.rewinds)
        following = text[after : after + most]
        tokens = list(takewhile(lambda token: token < self.vocabulary, following))
        return Proposal(tokens, [min(agreed + n, LONGEST_MATCH) for n in range(len(tokens))])


def _reads(row: Row, proposal: Proposal) -> bool:
    """Whether the operands that draft know the last token drafted, and so can go on behind it."""
    return not proposal.tokens or proposal.tokens[-1] < row.draft_vocabulary


def _keep_worthwhile(proposals: Sequence[Proposal], pace: Pace) -> None:
    """Drops the tokens that aren't worth checking."""
    counts = pace.worth_checking([proposal.grades for proposal in proposals])
    for proposal, count in zip(proposals, counts, strict=True):
        proposal.keep(count)
