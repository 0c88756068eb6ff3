"""How often the formula chooses what was drafted, learnt as drafted tokens are checked."""

from collections.abc import Sequence

MEMORY = 0.98  # of what was learnt, kept with each further token of the grade


class Acceptance:
    """The chance that a drafted token is kept, if those before it are, for each grade that drafts give their
    tokens. A grade of which nothing is known has an even chance."""

    def __init__(self) -> None:
        self._checked: dict[int, float] = {}
        self._kept: dict[int, float] = {}

    def chance(self, grade: int) -> float:
        """Of a token of this grade."""
        return (self._kept.get(grade, 0.0) + 1) / (self._checked.get(grade, 0.0) + 2)

    @property
    def average(self) -> float:
        """Of a token whose grade isn't known yet."""
        return (sum(self._kept.values()) + 1) / (sum(self._checked.values()) + 2)

    def note(self, grades: Sequence[int], kept: int) -> None:
        """The first `kept` tokens of a draft were kept; those behind the one that wasn't tell nothing."""
        for place, grade in enumerate(grades[: kept + 1]):
            self._checked[grade] = MEMORY * self._checked.get(grade, 0.0) + 1
            self._kept[grade] = MEMORY * self._kept.get(grade, 0.0) + (place < kept)
