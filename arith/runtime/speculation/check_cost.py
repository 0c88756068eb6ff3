"""What it costs to check drafted tokens: seconds of a forward against the positions it is asked for."""

from collections import deque
from itertools import combinations
from statistics import median

RECENT = 5  # forwards of one number of positions, the quickest of which counts: noise only ever adds
NUMBERS = 24  # of positions that are remembered


class CheckCost:
    """Learns the seconds of checks. `of_a_position` is what one position more adds to them: the median slope
    between the numbers of positions met (Theil 1950; Sen 1968), None before there are two."""

    def __init__(self) -> None:
        self.of_a_position: float | None = None
        self._seconds: dict[int, deque[float]] = {}

    def note(self, positions: int, seconds: float) -> None:
        """A check of so many positions took so long."""
        recent = self._seconds.pop(positions, deque(maxlen=RECENT))
        recent.append(seconds)
        self._seconds[positions] = recent  # the last one now
        if len(self._seconds) > NUMBERS:
            del self._seconds[next(iter(self._seconds))]
        points = sorted((number, min(times)) for number, times in self._seconds.items())
        slopes = [(high[1] - low[1]) / (high[0] - low[0]) for low, high in combinations(points, 2)]
        if slopes:
            self.of_a_position = max(0.0, median(slopes))
