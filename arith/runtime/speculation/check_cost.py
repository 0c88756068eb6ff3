"""What it costs to check drafted tokens: seconds of forwards against the positions they are asked for."""

from collections import deque
from itertools import combinations
from statistics import median

RECENT = 64  # rounds: what is older says little, for texts grow and machines have other work


class CheckCost:
    """Learns the seconds of checks, and of plain steps, which ask for one position a row and run otherwise.

    `of_a_position` is what one position more adds to a check: the median slope between the numbers of
    positions met lately (Theil 1950; Sen 1968), of each its quickest check, since noise only ever adds. None
    before there are two.
    """

    def __init__(self) -> None:
        self.of_a_position: float | None = None
        self._behind = 0.0  # the seconds of a check beside those of its positions
        self._rounds: deque[tuple[bool, int, float]] = deque(maxlen=RECENT)  # plain, positions, seconds
        self._plain: dict[int, float] = {}

    def note(self, rows: int, positions: int, seconds: float) -> None:
        """So many positions of so many rows took so long."""
        step = 1 << max(0, positions.bit_length() - 3)  # three significant bits, so that each is met often
        plain = positions == rows
        self._rounds.append((plain, positions if plain else round(positions / step) * step, seconds))
        self._plain = self._quickest(True)
        points = sorted(self._quickest(False).items())
        if len(points) == 1:  # then its slope with plain steps
            points = sorted([*points, *self._plain.items()])
        slopes = [(y - x[1]) / (number - x[0]) for x, (number, y) in combinations(points, 2) if number > x[0]]
        self.of_a_position = max(0.0, median(slopes)) if slopes else None
        self._behind = median(y - (self.of_a_position or 0.0) * number for number, y in points or [(0, 0.0)])

    def of_any(self, rows: int) -> float:
        """Seconds by which a check of these rows, before any token is drafted, is above a plain step."""
        if self.of_a_position is None or not self._plain:
            return 0.0
        nearest = min(self._plain, key=lambda number: abs(number - rows))
        return max(0.0, self._behind + self.of_a_position * nearest - self._plain[nearest])

    def _quickest(self, plain: bool) -> dict[int, float]:
        found: dict[int, float] = {}
        for kind, positions, seconds in self._rounds:
            if kind == plain:
                found[positions] = min(seconds, found.get(positions, seconds))
        return found
