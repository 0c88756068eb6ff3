"""What ends a row."""

from dataclasses import dataclass

from arith.runtime.result import FinishReason
from arith.runtime.sampling.stopping import StopStrings


@dataclass(frozen=True, eq=False)
class Ending:
    """What ends a row besides stopping criteria: its end-of-sequence `ids`, its `stop_strings` (None: it has
    none), and its length.

    most: how many tokens it can have, one at least: those that are asked for, as far as they go into the
        context windows of the operands that it needs.
    most_drafted: how many go into the windows of those that draft for it, too.
    """

    ids: frozenset[int]
    stop_strings: StopStrings | None
    most: int
    most_drafted: int

    def room_to_draft(self, count: int) -> int:
        """How many tokens can be drafted behind `count`: the formula adds one, and drafts have windows."""
        return max(0, min(self.most - count - 1, self.most_drafted - count))

    def reason(self, token: int, count: int, criterion: bool) -> FinishReason | None:
        """Why the row ends with `token`, by which it has `count` of them; None if it goes on. `criterion`:
        whether a stopping criterion ends it. Every token is to be told, in order."""
        ended_by_string = self.stop_strings is not None and self.stop_strings.push(token)
        if token in self.ids or criterion:
            return "stop"
        if ended_by_string:
            return "stop_string"
        return "length" if count >= self.most else None
