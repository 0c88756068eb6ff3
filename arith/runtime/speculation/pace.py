"""How many tokens to draft: a number that is given, or the one that has been quickest so far."""

LENGTHS = (0, 1, 2, 3, 4, 6, 8, 12)
FIRST = 4
TRIALS = 3  # rounds of a length before it is judged
AGAIN = 64  # rounds after which a neighbour is tried again
FORGET = 0.8


class Pace:
    """The number of tokens to draft each round. What rows get is the same whatever it is, so it may follow
    the clock: the seconds a token of each length are measured, and the quickest and its neighbours used."""

    def __init__(self, tokens: int | None):
        self._fixed = tokens
        self._seconds: dict[int, float] = {}
        self._trials: dict[int, int] = {}
        self._rounds = 0

    @property
    def length(self) -> int:
        """How many tokens to draft now."""
        if self._fixed is not None:
            return self._fixed
        for length in (FIRST, 0):
            if self._trials.get(length, 0) < TRIALS:
                return length
        at = LENGTHS.index(self.best)
        near = LENGTHS[max(0, at - 1) : at + 2]
        for length in near:
            if self._trials.get(length, 0) < TRIALS:
                return length
        if self._rounds % AGAIN == 0:
            return near[(self._rounds // AGAIN) % len(near)]
        return self.best

    @property
    def best(self) -> int:
        """The length that took the least time for a token."""
        return min(self._seconds, key=lambda length: self._seconds[length])

    @property
    def off(self) -> bool:
        """Whether it is quickest to draft nothing."""
        tried = all(self._trials.get(length, 0) >= TRIALS for length in (0, FIRST))
        return self._fixed is None and tried and self.best == 0

    def note(self, length: int, tokens: float, seconds: float) -> None:
        """A round of this length gave so many tokens a row in that time."""
        self._rounds += 1
        self._trials[length] = self._trials.get(length, 0) + 1
        each = seconds / max(tokens, 1e-9)
        before = self._seconds.get(length)
        if before is None or self._trials[length] == 2:  # the first round may have had to grow caches
            self._seconds[length] = each
        else:
            self._seconds[length] = FORGET * before + (1 - FORGET) * each
