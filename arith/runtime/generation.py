"""The loop that turns rows into text: admit, step, choose, let go."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.runtime.answers import Leaf, Moment
from arith.runtime.choice import TokenChoice
from arith.runtime.drafts import Proposal, with_known
from arith.runtime.fusion import Fusion
from arith.runtime.lanes import Lanes, LeafLogits, Reading
from arith.runtime.row import Row
from arith.runtime.speculation import Speculation
from arith.runtime.stopping import Criteria, StopStrings


@dataclass(frozen=True, eq=False)
class Ending:
    """What ends a row: its length, end-of-sequence ids, stop strings, criteria, and each operand's context
    window."""

    max_new_tokens: int
    ids: frozenset[int]
    stop_strings: Mapping[Row, StopStrings]
    criteria: Criteria
    windows: Mapping[LLM, int | None]

    def room(self, row: Row) -> int:
        """How many tokens the row can still get."""
        limits = [self.max_new_tokens]
        for operand in row.runs:
            window = self.windows[operand]
            if window is not None:
                limits.append(window - len(row.prompt_ids[operand]))
        return max(1, min(limits)) - len(row.tokens)

    def judge(self, row: Row, criterion: bool) -> None:
        """Sets the row's `finish_reason` if its last token ends it."""
        token = row.tokens[-1]
        ended_by_string = self.stop_strings[row].push(token) if row in self.stop_strings else False
        if token in self.ids or criterion:
            row.finish_reason = "stop"
        elif ended_by_string:
            row.finish_reason = "stop_string"
        elif self.room(row) <= 0:
            row.finish_reason = "length"


class Generation:
    """One call's rows on their way through the engine. At most `max_rows` are in flight; as one ends the next
    enters."""

    def __init__(
        self,
        fusion: Fusion,
        lanes: Lanes,
        rows: Sequence[Row],
        choice: TokenChoice,
        ending: Ending,
        speculation: Speculation,
        max_rows: int,
    ):
        self.fusion = fusion
        self.lanes = lanes
        self.waiting = deque(rows)
        self.active: list[Row] = []
        self.choice = choice
        self.ending = ending
        self.speculation = speculation
        self.max_rows = max_rows

    def run(self) -> Iterator[list[Row]]:
        """Yields, whenever rows got tokens (their `fresh` ones), these rows; a row whose `finish_reason` is
        set comes for the last time."""
        while self.waiting or self.active:
            if self.waiting and len(self.active) < self.max_rows:
                yield self.admit()
            elif self.active:
                yield self.step()

    @torch.inference_mode()
    def admit(self) -> list[Row]:
        """Fills the free slots: prefills the rows that enter and gives them their first token."""
        free = self.max_rows - len(self.active)
        entering = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        started = time.perf_counter()
        self.active += entering
        logits = self.lanes.open(entering)
        self.advance([Reading(row, ()) for row in entering], [Proposal() for _ in entering], logits)
        for row in entering:
            row.started, row.prefilled = started, time.perf_counter()
        self.let_go(entering)
        return entering

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """At least one more token for every row in flight: one forward of each backbone, for all tokens that
        are drafted."""
        rows = list(self.active)
        proposals = self.speculation.propose(rows, [self.ending.room(row) for row in rows], self.lanes)
        readings = [proposal.reading(row) for row, proposal in zip(rows, proposals, strict=True)]
        logits = with_known(self.lanes.read(readings), readings, proposals)
        self.advance(readings, proposals, logits)
        self.lanes.cut(rows)
        self.speculation.note(rows, proposals)
        self.let_go(rows)
        return rows

    def advance(self, readings: Sequence[Reading], proposals: Sequence[Proposal], logits: LeafLogits) -> None:
        """Gives each row the tokens that the formula chooses at the positions read, up to the first one that
        was not drafted; notes them with their log-probabilities: one transfer to the host."""
        spread = self.fusion.spread(logits, sum(reading.count for reading in readings))
        moments = self.moments(readings, proposals, spread)
        fused = self.fusion.evaluate(moments, spread)
        chosen = self.choice(moments, fused.log_probs)
        figures = fused.of_tokens(chosen.tokens)
        columns = (chosen.tokens, *figures.values())
        table = torch.stack([column.double() for column in columns]).tolist()
        position = 0
        for reading, proposal in zip(readings, proposals, strict=True):
            row, row.fresh = reading.row, 0
            for ahead in range(reading.count):
                at = position + ahead
                token = int(table[0][at])
                values = {name: column[at] for name, column in zip(figures, table[1:], strict=True)}
                row.append(token, values)
                self.ending.judge(row, self.done(row, chosen.scores[at : at + 1]))
                if row.finish_reason is not None or proposal.tokens[ahead : ahead + 1] != [token]:
                    break
            position += reading.count

    def done(self, row: Row, scores: Tensor) -> bool:
        """Whether a stopping criterion ends the row with its last token, chosen from these `[1, vocab]`."""
        return (
            bool(self.ending.criteria)
            and self.ending.criteria([self.choice.history(row, row.tokens)], scores)[0]
        )

    def moments(
        self, readings: Sequence[Reading], proposals: Sequence[Proposal], spread: Mapping[Leaf, Tensor]
    ) -> list[Moment]:
        """The rows at the positions read: with the drafted tokens up to there."""
        found: list[Moment] = []
        for reading, proposal in zip(readings, proposals, strict=True):
            row, totals = reading.row, reading.row.totals
            found.append(Moment(row, row.tokens, totals))
            for ahead, token in enumerate(proposal.tokens[: reading.count - 1], start=1):
                if self.fusion.totalled:
                    totals = self.fusion.with_token(totals, spread, len(found) - 1, token)
                found.append(Moment(row, [*row.tokens, *proposal.tokens[:ahead]], totals))
        return found

    def let_go(self, rows: Sequence[Row]) -> None:
        """Frees the lanes of the rows that ended."""
        ended = [row for row in rows if row.finish_reason is not None]
        if not ended:
            return
        self.lanes.close(ended)
        for row in ended:
            row.ended = time.perf_counter()
        self.active = [row for row in self.active if row.finish_reason is None]
