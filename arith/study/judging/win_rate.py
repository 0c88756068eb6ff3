"""How often the answers of one results file win against those of another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from arith.errors import SpecError
from arith.study.bootstrap import Interval, mean_interval
from arith.study.judging.judge import WINS
from arith.study.judging.length_control import length_controlled
from arith.study.judging.matching import by_match, listed_rows, match_of
from arith.study.judging.verdict import Outcome
from arith.study.results import ResultRow

Couple = tuple[ResultRow, ResultRow]


@dataclass(frozen=True)
class Matched:
    """The rows that answer the same prompt with the same sample, and those left alone on each side."""

    couples: Sequence[Couple]
    alone: tuple[Sequence[ResultRow], Sequence[ResultRow]]

    @classmethod
    def of(cls, first: Sequence[ResultRow], second: Sequence[ResultRow]) -> "Matched":
        """Rows of one point each, in an order of their own: they stand on disk as they were finished, and
        intervals draw prompts by place. Raises `SpecError` where none of them match."""
        there = by_match(second)
        found = sorted((row for row in first if match_of(row) in there), key=match_of)
        couples = [(row, there[match_of(row)]) for row in found]
        if not couples:
            rows = listed_rows([first[0], second[0]])
            raise SpecError(
                f"no row of one has its counterpart in the other; the first of each:{rows}",
                "counterparts have the same prompt, fields, occurrence and sample",
            )
        taken = {match_of(row) for row, _ in couples}
        alone = [[row for row in rows if match_of(row) not in taken] for rows in (first, second)]
        return cls(couples, (alone[0], alone[1]))


@dataclass(frozen=True)
class WinRate:
    """What comparisons come to, for the first side.

    rate: the share of wins, ties counting half, among those that are determined; with its 95% interval by the
        bootstrap over prompts.
    controlled: the same at equal lengths; None where it wasn't asked for.
    """

    outcomes: Counter[Outcome]
    rate: Interval
    controlled: Interval | None

    @classmethod
    def of(
        cls,
        couples: Sequence[Couple],
        outcomes: Sequence[Outcome],
        lengths: Sequence[tuple[int, int]] | None = None,
    ) -> "WinRate":
        """Of couples and their outcomes `[couples]`, and where equal lengths are asked for the lengths of the
        answers in characters `[couples]`. Raises `SpecError` where no outcome is determined."""
        known = [place for place, outcome in enumerate(outcomes) if WINS[outcome] is not None]
        if not known:
            raise SpecError(
                "none of the comparisons is determined", "look at the replies in the judge's cache"
            )
        values = [float(WINS[outcomes[place]] or 0.0) for place in known]
        prompts = [couples[place][0].prompt_key for place in known]
        controlled = None
        if lengths is not None:
            controlled = length_controlled(values, [lengths[place] for place in known], prompts)
        return cls(Counter(outcomes), mean_interval(values, prompts), controlled)

    def table(self) -> Table:
        """For the terminal."""
        table = Table(caption="ties count half; 95% intervals by the bootstrap over prompts")
        names = ["wins", "ties", "losses", "undetermined", "win rate"]
        kinds: tuple[Outcome, ...] = ("win", "tie", "lose", "undetermined")
        values = [*(str(self.outcomes[kind]) for kind in kinds), str(self.rate)]
        if self.controlled is not None:
            names.append("at equal lengths")
            values.append(str(self.controlled))
        for name in names:
            table.add_column(name, justify="right")
        table.add_row(*values)
        return table


def by_scores(first: Sequence[float], second: Sequence[float]) -> list[Outcome]:
    """The outcome of each couple by the scores of its rows; undetermined where one has none (NaN)."""
    found: list[Outcome] = []
    for one, other in zip(first, second, strict=True):
        if one != one or other != other:
            found.append("undetermined")
        else:
            found.append("tie" if one == other else "win" if one > other else "lose")
    return found
