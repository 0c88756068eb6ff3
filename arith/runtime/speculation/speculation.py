"""Speculation: drafted tokens are checked many at once, and kept as long as the formula would choose them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from arith.runtime.lanes import Lanes
from arith.runtime.row import Row
from arith.runtime.speculation.drafts import Draft, Proposal
from arith.runtime.speculation.pace import Pace


@dataclass
class SpeculationStats:
    """Counts since the last `reset`: tokens `drafted` and `accepted`; `checks`, the times that a row was told
    what the formula says, and `tokens`, those that it got then."""

    drafted: int = 0
    accepted: int = 0
    checks: int = 0
    tokens: int = 0
    off: bool = False  # whether the last call found that it does not pay to draft

    @property
    def forwards_per_token(self) -> float:
        """Forwards of the whole formula for each token of a row: 1 without speculation."""
        return self.checks / self.tokens if self.tokens else 1.0

    def __str__(self) -> str:
        figures = f"{self.drafted} tokens drafted, {self.accepted} accepted"
        said = f"{figures}: {self.forwards_per_token:.2f} forwards of the formula a token"
        return f"{said}; drafting did not pay in the end, and was left off" if self.off else said

    def reset(self) -> None:
        self.off = False
        self.drafted = self.accepted = self.checks = self.tokens = 0


class Speculation:
    """The drafts of one call; without a `draft` each row's proposal is empty.

    A row's random numbers at a step are the same for the draft and for the formula, so a drafted token is
    kept if it is the one that the formula chooses there. What a row gets is therefore what it would get
    without a draft, token for token (up to floating-point reordering), whatever is drafted and however many
    tokens: drafter-invariant speculative decoding (Daliri et al. 2025; Leviathan et al. 2023 couple the two
    distributions once more tightly, but draw other tokens than without a draft).
    """

    def __init__(self, draft: Draft | None, pace: Pace, stats: SpeculationStats):
        self.draft = draft
        self.pace = pace
        self.stats = stats
        self._started = self._drafted = 0.0

    def begin(self) -> None:
        """The call begins to run."""
        self.stats.off = False

    def propose(self, rows: Sequence[Row], lanes: Lanes) -> list[Proposal]:
        """Each row's draft, of as many tokens as it has room for at most."""
        self._started = time.perf_counter()
        proposals = [Proposal() for _ in rows]
        if self.draft is not None:
            self.pace.begin(len(rows))
            room = [row.ending.room_to_draft(len(row.tokens)) for row in rows]
            proposals = self.draft.propose(rows, room, lanes, self.pace)
        self._drafted = time.perf_counter()
        return proposals

    def note(self, rows: Sequence[Row], proposals: Sequence[Proposal]) -> None:
        """Takes account of a round: the rows have their `fresh` tokens now."""
        ended = time.perf_counter()
        judged, kept = [], []
        for row, proposal in zip(rows, proposals, strict=True):
            agreeing = (drafted == token for drafted, token in zip(proposal.tokens, row.fresh, strict=False))
            kept.append(sum(agreeing))
            judged.append(proposal.grades[: len(row.fresh)])
        drafted = sum(len(proposal.tokens) for proposal in proposals)
        self.stats.checks += len(rows)
        self.stats.tokens += sum(len(row.fresh) for row in rows)
        self.stats.drafted += drafted
        self.stats.accepted += sum(kept)
        if self.draft is not None:
            self.pace.note(
                judged,
                kept,
                positions=len(rows) + drafted,
                checking=ended - self._drafted,
                seconds=ended - self._started,
            )
            self.stats.off = self.pace.off
