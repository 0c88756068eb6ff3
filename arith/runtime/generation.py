"""The loop that turns rows into text: admit, step, choose, let go."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from arith.runtime.answers import Leaf, Moment
from arith.runtime.arrival import Arrival
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.decision import Decision, decide
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.lanes import Lanes, LeafLogits, Reading, first_positions
from arith.runtime.plan import no_room_for
from arith.runtime.rewinding.rewind import Rewinding
from arith.runtime.row import Row
from arith.runtime.sampling.choice import TokenChoice
from arith.runtime.sampling.stopping import Criteria
from arith.runtime.speculation.drafts import Proposal, with_known
from arith.runtime.speculation.speculation import Speculation

SLICE = 256  # tokens of prompts that run between two steps of the rows in flight


class Generation:
    """One call's rows on their way through the engine. At most `max_rows` are in flight; as one ends the next
    enters."""

    def __init__(
        self,
        fusion: Fusion,
        lanes: Lanes,
        rows: Sequence[Row],
        choice: TokenChoice,
        criteria: Criteria,
        max_new_tokens: int,
        speculation: Speculation,
        rewinding: Rewinding | None,
        max_rows: int,
    ):
        self.fusion = fusion
        self.lanes = lanes
        self.waiting = deque(rows)
        self.arrival: Arrival | None = None
        self.active: list[Row] = []
        self.choice = choice
        self.criteria = criteria
        self.max_new_tokens = max_new_tokens
        self.speculation = speculation
        self.rewinding = rewinding
        self.max_rows = max_rows
        self.lowered_to: int | None = None
        self.trimmed = False  # whether memory was given back since a row last got a token

    def run(self) -> Iterator[list[Row]]:
        """Yields, whenever rows got tokens (their `fresh` ones), these rows; a row whose `finish_reason` is
        set comes for the last time."""
        self.speculation.begin()
        self.lanes.reserve(min(self.max_rows, len(self.waiting)), self.longest)
        while self.waiting or self.arrival or self.active:
            rows = self.turn_within_memory()
            if rows:
                yield rows

    @property
    def longest(self) -> int:
        """How many tokens a lane of a waiting row can come to have."""
        return max((row.longest_prompt for row in self.waiting), default=0) + self.max_new_tokens

    def turn_within_memory(self) -> list[Row]:
        """A turn; where memory runs out in it, fewer rows go on."""
        try:
            rows = self.turn()
            self.trimmed = self.trimmed and not rows
            return rows
        except Exception as error:
            if not out_of_memory(error):
                raise
        return self.retreat()  # outside the handler: the traceback holds tensors

    def turn(self) -> list[Row]:
        """Lets waiting rows in where there is room, a slice of their prompts at a time if others are in
        flight, and gives those in flight a step."""
        if self.arrival is None and self.waiting and len(self.active) < self.max_rows:
            free = self.max_rows - len(self.active)
            entering = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
            for row in entering:
                row.enter()
            self.arrival = Arrival(entering, ())  # so that they are known if there is no memory to begin
            self.arrival = self.lanes.begin(entering)
        if self.arrival is not None and self.arrival.advance(SLICE if self.active else None):
            return self.admit(self.arrival)
        return self.step() if self.active else []

    @torch.inference_mode()
    def admit(self, arrival: Arrival) -> list[Row]:
        """Gives the rows that have arrived their next token, mostly their first."""
        rows = list(arrival.rows)
        logits = self.lanes.enter(arrival)
        self.arrival = None
        self.active += rows
        self.advance([Reading(row, ()) for row in rows], [Proposal() for _ in rows], logits)
        for row in rows:
            row.arrive()
        self.let_go(rows)
        self.lanes.cut(self.active)
        return rows

    def retreat(self) -> list[Row]:
        """Memory ran out: those who were arriving wait again, or else half of the rows in flight do, with the
        tokens that they have. Gives the rows that had just ended. Raises `PlanError` where there is but one
        row, to which all memory was left before."""
        ended = [row for row in self.active if row.finish_reason is not None]
        self.let_go(ended)
        arriving = [] if self.arrival is None else list(self.arrival.rows)
        if len(self.active) + len(arriving) <= 1 and self.trimmed and not ended:
            last = [*self.active, *arriving][0]
            raise no_room_for(last.place, f"it has {last.length} tokens", self.fusion.device)
        if self.arrival is not None:
            self.arrival.cancel()
            self.arrival = None
            self.max_rows = len(self.active) or max(1, len(arriving) // 2)
        else:
            self.max_rows = max(1, len(self.active) // 2)
        leaving = [row for n, row in enumerate(self.active) if n >= self.max_rows or not row.tokens]
        self.active = [row for row in self.active if row not in leaving]
        self.lanes.close(leaving)
        self.lanes.cut(self.active)
        self.lanes.trim()
        self.trimmed = True
        self.waiting.extendleft(reversed([*leaving, *arriving]))
        self.lowered_to = self.max_rows
        return ended

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """At least one more token for every row in flight: one forward of each backbone, for all tokens that
        are drafted."""
        rows = list(self.active)
        proposals = self.speculation.propose(rows, self.lanes)
        readings = [proposal.reading(row) for row, proposal in zip(rows, proposals, strict=True)]
        logits = with_known(self.lanes.read(readings), readings, proposals)
        self.advance(readings, proposals, logits)
        self.speculation.note(rows, proposals)
        self.let_go(rows)
        self.lanes.cut(self.active)
        return rows

    def advance(self, readings: Sequence[Reading], proposals: Sequence[Proposal], logits: LeafLogits) -> None:
        """Gives each row the tokens that the formula chooses at the positions read, up to the first one that
        was not drafted; notes them with their log-probabilities."""
        try:
            decision = self.decide(readings, proposals, logits)
        except Exception as error:
            if out_of_memory(error) or not any(proposal.tokens for proposal in proposals):
                raise
            # Behind a wrong token the formula may have no value, and a caller's processor no answer.
            for proposal in proposals:
                proposal.keep(0)
            readings, logits = first_positions(readings, logits)
            decision = self.decide(readings, proposals, logits)
        position = 0
        for reading, proposal in zip(readings, proposals, strict=True):
            row, row.fresh = reading.row, []
            for ahead in range(reading.count):
                at = position + ahead
                if self.rewinding is not None and at in decision.lost:
                    self.rewinding.without_choice(row)
                    break
                token = decision.tokens[at]
                values = {name: column[at] for name, column in decision.figures.items()}
                criterion = self.done(row, token, decision, at)  # which may fail
                row.append(token, values)
                row.finish_reason = row.ending.reason(token, len(row.tokens), criterion)
                if self.rewinding is not None and self.rewinding.goes_back(row):
                    break
                if row.finish_reason is not None or proposal.tokens[ahead : ahead + 1] != [token]:
                    break
            position += reading.count

    def decide(
        self, readings: Sequence[Reading], proposals: Sequence[Proposal], logits: LeafLogits
    ) -> Decision:
        """A token for each position read, with its log-probabilities."""
        spread = self.fusion.spread(logits, sum(reading.count for reading in readings))
        moments = self.moments(readings, proposals, spread)
        return decide(self.fusion, self.choice, moments, spread, Fused.of_tokens)

    def done(self, row: Row, token: int, decision: Decision, at: int) -> bool:
        """Whether a stopping criterion ends the row with this token, decided at this position."""
        if not self.criteria:
            return False
        history = self.choice.history(row, [*row.tokens, token])
        return self.criteria([history], decision.scores[at : at + 1])[0]

    def moments(
        self, readings: Sequence[Reading], proposals: Sequence[Proposal], spread: Mapping[Leaf, Tensor]
    ) -> list[Moment]:
        """The rows at the positions read: with the drafted tokens up to there."""
        drafted = [p.tokens[: r.count - 1] for r, p in zip(readings, proposals, strict=True)]
        added = self.fusion.log_probs_of_drafted(drafted, spread)
        found: list[Moment] = []
        for reading, tokens in zip(readings, drafted, strict=True):
            row, totals = reading.row, reading.row.totals
            found.append(Moment(row, row.tokens, totals))
            for ahead in range(1, len(tokens) + 1):
                totals = {**totals, **{name: totals[name] + next(values) for name, values in added.items()}}
                found.append(Moment(row, [*row.tokens, *tokens[:ahead]], totals))
        return found

    def let_go(self, rows: Sequence[Row]) -> None:
        """Frees the lanes of the rows that ended."""
        ended = [row for row in rows if row.finish_reason is not None]
        if not ended:
            return
        self.lanes.close(ended)
        for row in ended:
            row.leave()
        self.active = [row for row in self.active if row.finish_reason is None]
