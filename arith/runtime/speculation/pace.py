"""Which tokens are worth drafting and checking: a number that is given, or those that pay."""

from collections.abc import Sequence

from arith.runtime.speculation.acceptance import Acceptance
from arith.runtime.speculation.check_cost import CheckCost

LONGEST = 12
FIRST = 4
TRIALS = (FIRST, 0, FIRST // 2, 0)  # tokens of the first rounds, from which costs and chances are learnt
AGAIN = 64  # rounds after which the other way is tried once more
MEMORY = 0.9  # of the rounds before, in what a token takes


class Pace:
    """How far rows draft. What they get is the same whatever it is, so it may follow the clock: a token is
    worth the time that a token takes at present, and it pays to check a drafted one if the chance that it is
    kept, times that, is more than what a position more takes to check. What was learnt in one call holds for
    the next."""

    def __init__(self, tokens: int | None):
        self.off = False  # whether nothing that could be drafted was worth it, the last time something could
        self._fixed = tokens
        self._acceptance = Acceptance()
        self._cost = CheckCost()
        self._drafting = 0.0  # seconds of a step of drafting
        self._seconds = self._tokens = 0.0  # of a round, and a row's in it
        self._rows = self._rounds = 0
        self._offered = self._taken = False

    def begin(self, rows: int) -> None:
        """A round of so many rows."""
        self._rows = rows

    @property
    def most(self) -> int:
        """How many tokens a row may draft in this round."""
        if self._fixed is not None:
            return self._fixed
        tried = self._trial
        return LONGEST if tried is None else tried

    def worth_checking(self, drafts: Sequence[Sequence[int]]) -> list[int]:
        """How many of each row's drafted tokens, given their grades, are checked: none, unless what they gain
        together is more than it costs to check any."""
        self._offered |= any(drafts)
        counts = [len(grades) for grades in drafts]
        if self._fixed is None and self._trial is None:
            total = 0.0
            for row, grades in enumerate(drafts):
                chance = 1.0
                for place, grade in enumerate(grades):
                    chance *= self._acceptance.chance(grade)
                    gain = self._gain(chance)
                    if not gain > 0:
                        counts[row] = place
                        break
                    total += gain
            if total <= self._cost.of_any(self._rows):
                counts = [0] * len(drafts)
        self._taken |= any(counts)
        return counts

    def worth_drafting(self, drafts: Sequence[Sequence[int]]) -> list[bool]:
        """Which rows draft one token more, given the grades of what each has drafted: none, unless what they
        gain together is more than the time of a step of drafting, and at first also than what it costs to
        check any."""
        if self._fixed is not None or self._trial is not None:
            return [True] * len(drafts)
        self._offered = True
        gains = []
        for grades in drafts:
            chance = self._acceptance.average
            for grade in grades:
                chance *= self._acceptance.chance(grade)
            gains.append(self._gain(chance))
        if any(drafts):
            pays = sum(max(0.0, gain) for gain in gains) > self._drafting
        else:
            pays = self._prospect() > self._cost.of_any(self._rows)
        return [pays and gain > 0 for gain in gains]

    def note_drafting(self, seconds: float) -> None:
        """A step of drafting took so long."""
        self._drafting = seconds if self._drafting == 0 else MEMORY * self._drafting + (1 - MEMORY) * seconds

    def note(
        self,
        drafts: Sequence[Sequence[int]],
        kept: Sequence[int],
        *,
        positions: int,
        checking: float,
        seconds: float,
    ) -> None:
        """A round is over: for each row the grades of the tokens that the formula judged, and how many of
        them were kept; the positions that it was asked for, the seconds of that, and of the whole round."""
        if self._fixed is not None:
            return
        for grades, count in zip(drafts, kept, strict=True):
            self._acceptance.note(grades, count)
        self._cost.note(len(kept), positions, checking)
        self._seconds = MEMORY * self._seconds + seconds
        self._tokens = MEMORY * self._tokens + 1 + sum(kept) / len(kept)
        if self._offered and self._trial is None:
            self.off = not self._taken
        self._offered = self._taken = False
        self._rounds += 1

    def _prospect(self) -> float:
        """Seconds that are won, on average, by drafting as far as it pays, from the first token on."""
        chance, total = 1.0, 0.0
        for _ in range(LONGEST):
            chance *= self._acceptance.average
            gain = self._rows * max(0.0, self._gain(chance)) - self._drafting
            if gain <= 0:
                break
            total += gain
        return total

    def _gain(self, chance: float) -> float:
        """Seconds that are won, on average, by checking a token that is kept with this chance."""
        return chance * self._seconds / (self._tokens * self._rows) - (self._cost.of_a_position or 0.0)

    @property
    def _trial(self) -> int | None:
        """How many tokens are drafted whether it pays or not; None: as many as pay."""
        if self._rounds < len(TRIALS):
            return TRIALS[self._rounds]
        if self._cost.of_a_position is None:
            return FIRST
        if self._rounds % AGAIN == 0:
            return FIRST if self.off else 0
        return None
