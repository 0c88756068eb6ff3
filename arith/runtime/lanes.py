"""The lanes of rows: opened, read and cut back, those of a backbone in one forward."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import LLM
from arith.runtime.answers import Leaf
from arith.runtime.arrival import Arrival
from arith.runtime.backbones.backbone import Backbone
from arith.runtime.backbones.lane import Lane, LaneRequest
from arith.runtime.row import Row

LeafLogits = dict[Leaf, tuple[list[int], Tensor]]
"""For each leaf its logits `[n, vocab]`, and at which of the positions that were asked for they stand."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Asks what `operands` say at `count` positions of a row. The last one is behind the row's tokens and
    those `ahead`; the others come before it."""

    row: Row
    operands: Collection[LLM | GuideOperand]
    ahead: Sequence[int] = ()
    count: int = 1


def first_positions(readings: Sequence[Reading], logits: LeafLogits) -> tuple[list[Reading], LeafLogits]:
    """The first position of each reading alone, and its logits."""
    counts = [reading.count for reading in readings]
    numbers = {start: number for number, start in enumerate([0, *accumulate(counts)][:-1])}
    found: LeafLogits = {}
    for leaf, (chosen, part) in logits.items():
        places = [place for place, position in enumerate(chosen) if position in numbers]
        found[leaf] = ([numbers[chosen[place]] for place in places], part[places])
    return [Reading(reading.row, reading.operands) for reading in readings], found


class Lanes:
    """All lanes of one call. A lane may lag behind its row: what it hasn't read is read when it is asked."""

    def __init__(self, backbones: Mapping[LLM, Backbone], exits: Mapping[LLM, Sequence[int]]):
        self._exits = exits
        self._grouped: dict[Backbone, list[LLM]] = {}
        for operand, backbone in backbones.items():
            self._grouped.setdefault(backbone, []).append(operand)

    def reserve(self, rows: int, length: int) -> None:
        """Tells the backbones that so many rows of up to `length` tokens, prompts included, are to come."""
        for backbone, operands in self._grouped.items():
            backbone.reserve(rows * len(operands), length)

    def begin(self, rows: Sequence[Row]) -> Arrival:
        """Opens lanes for the operands that each row needs, to read its prompt and the tokens it has."""
        openings = []
        for backbone, operands in self._grouped.items():
            asked = [
                (n, operand) for operand in operands for n, row in enumerate(rows) if operand in row.runs
            ]
            if asked:
                requests = [
                    LaneRequest(operand.adapter, (*rows[n].prompt_ids[operand], *rows[n].tokens))
                    for n, operand in asked
                ]
                try:
                    openings.append((backbone, asked, backbone.begin(requests)))
                except Exception:  # for want of memory, say: those that have begun give theirs back
                    Arrival(rows, openings).cancel()
                    raise
        return Arrival(rows, openings)

    def enter(self, arrival: Arrival) -> LeafLogits:
        """Gives the rows their lanes, now that these have read all; what is said behind that."""
        found: LeafLogits = {}
        counts = [1] * len(arrival.rows)
        for backbone, asked, opening in arrival.openings:
            for (n, operand), lane in zip(asked, opening.lanes, strict=True):
                arrival.rows[n].lanes[operand] = lane
            self._collect(found, backbone, asked, opening.lanes, torch.cat(opening.logits), counts)
        return found

    def read(self, readings: Sequence[Reading]) -> LeafLogits:
        """What is said at the positions asked for, counted through all readings."""
        found: LeafLogits = {}
        counts = [reading.count for reading in readings]
        for backbone, operands in self._grouped.items():
            asked = [
                (n, operand)
                for operand in operands
                for n, reading in enumerate(readings)
                if operand in reading.operands
            ]
            if not asked:
                continue
            lanes = [readings[n].row.lanes[operand] for n, operand in asked]
            pending = [
                _pending(readings[n], operand, lane) for (n, operand), lane in zip(asked, lanes, strict=True)
            ]
            if all(len(tokens) == 1 for tokens in pending):
                logits = backbone.step(lanes, [token for (token,) in pending])
            else:
                logits = torch.cat(backbone.extend(lanes, pending, [counts[n] for n, _ in asked]))
            self._collect(found, backbone, asked, lanes, logits, counts)
        return found

    def cut(self, rows: Sequence[Row]) -> None:
        """Lets lanes forget what they read and their rows didn't keep."""
        for backbone, operands in self._grouped.items():
            long = [
                (row.lanes[operand], kept)
                for row in rows
                for operand in operands
                if operand in row.lanes
                and len(row.lanes[operand].tokens)
                > (kept := len(row.prompt_ids[operand]) + len(row.tokens) - 1)
            ]
            if long:
                backbone.crop([lane for lane, _ in long], [kept for _, kept in long])

    def close(self, rows: Sequence[Row]) -> None:
        """Frees the lanes of rows."""
        for backbone, operands in self._grouped.items():
            lanes = [row.lanes.pop(operand) for row in rows for operand in operands if operand in row.lanes]
            if lanes:
                backbone.close(lanes)

    def trim(self) -> None:
        """Gives back what memory can be had without the lanes that are open."""
        for backbone in self._grouped:
            backbone.trim()

    def _collect(
        self,
        found: LeafLogits,
        backbone: Backbone,
        asked: Sequence[tuple[int, LLM]],
        lanes: Sequence[Lane],
        logits: Tensor,
        counts: Sequence[int],
    ) -> None:
        """Files the logits of a backbone, which stand operand after operand, under their leaves."""
        starts = [0, *accumulate(counts)]
        start = place = 0
        for operand in dict.fromkeys(operand for _, operand in asked):
            numbers = [n for n, other in asked if other == operand]
            chosen = [position for n in numbers for position in range(starts[n], starts[n] + counts[n])]
            found[operand, None] = (chosen, logits[start : start + len(chosen)])
            mine = lanes[place : place + len(numbers)]
            for k in self._exits.get(operand, ()):
                found[operand, k] = (chosen, torch.cat(backbone.early_logits(mine, k)))
            start += len(chosen)
            place += len(numbers)


def _pending(reading: Reading, operand: LLM, lane: Lane) -> list[int]:
    """The tokens that a lane has not read."""
    prompt = reading.row.prompt_ids[operand]
    done = len(lane.tokens) - len(prompt)
    behind = max(0, done - len(reading.row.tokens))
    return [*prompt[len(lane.tokens) :], *reading.row.tokens[max(0, done) :], *reading.ahead[behind:]]
