"""One thing done in two ways, timed in turn: medians with their spread, as a table and as data."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeVar

HEADINGS = ("measured", "case", "unit", "arith", "baseline", "ratio", "range", "must reach")

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Spread:
    """The median of measurements, and their range."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Target:
    """The bound that a ratio has to keep to, or a figure that is compared with nothing."""

    relation: Literal["<=", ">="]
    bound: float

    def met(self, value: float) -> bool:
        """Whether `value` keeps to it."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """One line of a table.

    ours, baseline: medians in `unit`; None for the baseline of what is compared with nothing.
    ratio: of ours to the baseline, pair by pair.
    ours_spread, baseline_spread: where there is more than one measurement of each.
    note: what else there is to say, such as "off" where drafting was left off.
    """

    measured: str
    case: str
    unit: str
    ours: float
    baseline: float | None = None
    ratio: Spread | None = None
    target: Target | None = None
    note: str = ""
    ours_spread: Spread | None = None
    baseline_spread: Spread | None = None

    @classmethod
    def of(
        cls,
        measured: str,
        case: str,
        unit: str,
        ours: Sequence[float],
        baseline: Sequence[float],
        target: Target | None = None,
        note: str = "",
    ) -> Self:
        """The figure of measurements taken in turn: the first of ours goes with the baseline's first."""
        return cls(
            measured,
            case,
            unit,
            statistics.median(ours),
            statistics.median(baseline),
            Spread.of([mine / other for mine, other in zip(ours, baseline, strict=True)]),
            target,
            note,
            Spread.of(ours),
            Spread.of(baseline),
        )

    @property
    def met(self) -> bool | None:
        """Whether the target is met, None without one."""
        if self.target is None:
            return None
        return self.target.met(self.ours if self.ratio is None else self.ratio.median)

    def cells(self) -> tuple[str, ...]:
        """What stands under each of `HEADINGS`."""
        said = "" if self.target is None else f"{self.target}: {'yes' if self.met else 'no'}"
        ratio = ("", "")
        if self.ratio is not None:
            ratio = (f"{self.ratio.median:.2f}", f"{self.ratio.lowest:.2f}-{self.ratio.highest:.2f}")
        baseline = "" if self.baseline is None else rounded(self.baseline)
        case = f"{self.case} ({self.note})" if self.note else self.case
        return (self.measured, case, self.unit, rounded(self.ours), baseline, *ratio, said)

    def as_data(self) -> dict[str, Any]:
        """The figure as JSON takes it."""
        return {**asdict(self), "met": self.met}


def in_turn(*ways: Callable[[], Measured], repeats: int) -> tuple[tuple[Measured, ...], ...]:
    """What each of the ways gives, `repeats` times after a warm-up. They take turns in going first, so that a
    slow moment of the machine hits all of them."""
    for way in ways:
        way()
    rounds = []
    for turn in range(repeats):
        order = [(turn + place) % len(ways) for place in range(len(ways))]
        found = {place: ways[place]() for place in order}
        rounds.append([found[place] for place in range(len(ways))])
    return tuple(zip(*rounds, strict=True))


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def heading() -> str:
    """The head of the table of figures."""
    return f"{line(HEADINGS)}\n{line('---' for _ in HEADINGS)}"


def rounded(value: float) -> str:
    """A figure with three digits or more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
