"""The means of scores at each point, with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from arith.point_text import value_text
from arith.study.bootstrap import Interval, mean_interval
from arith.study.results import PointKey, ResultRow, point_key


@dataclass(frozen=True)
class PointSummary:
    """The rows of one point: how many there are, and for each score its mean with the 95% interval over
    prompts, and how many rows have none."""

    point: Mapping[str, float | str]
    rows: int
    means: Mapping[str, Interval]
    unscored: Mapping[str, int]


def summaries(rows: Sequence[ResultRow], scores: Mapping[str, Sequence[float]]) -> list[PointSummary]:
    """One summary a point, in the order of their values; `scores` are `[rows]`, NaN where a row has none."""
    grouped: dict[PointKey, list[int]] = {}
    for place, row in enumerate(rows):
        grouped.setdefault(point_key(row.point), []).append(place)
    found = [_summary(rows, scores, places) for places in grouped.values()]
    return sorted(found, key=lambda one: [(isinstance(value, str), value) for value in one.point.values()])


def _summary(
    rows: Sequence[ResultRow], scores: Mapping[str, Sequence[float]], places: Sequence[int]
) -> PointSummary:
    # In an order of their own: rows stand on disk as they were finished, and prompts are drawn by place.
    places = sorted(places, key=lambda n: (rows[n].prompt_key, rows[n].occurrence, rows[n].sample))
    prompts = [rows[place].prompt_key for place in places]
    chosen = {name: [values[place] for place in places] for name, values in scores.items()}
    return PointSummary(
        point=rows[places[0]].point,
        rows=len(places),
        means={name: mean_interval(values, prompts) for name, values in chosen.items()},
        unscored={name: sum(map(math.isnan, values)) for name, values in chosen.items()},
    )


def table_of(found: Sequence[PointSummary]) -> Table:
    """The summaries as a table: a column for each swept value, and one for each score with its interval."""
    names = list(dict.fromkeys(name for one in found for name in one.point))
    scores = list(found[0].means)
    table = Table(caption="means with 95% intervals, by the bootstrap over prompts")
    for name in (*names, "rows", *scores):
        table.add_column(Text(name), justify="right")
    for one in found:
        values = [value_text(one.point.get(name, "")) for name in names]
        table.add_row(*map(Text, (*values, str(one.rows), *(_mean(one, score) for score in scores))))
    return table


def _mean(one: PointSummary, score: str) -> str:
    """The mean with its interval, and what it is over where rows have no score."""
    interval = one.means[score]
    if math.isnan(interval.mean):
        return "none"
    lacking = one.unscored[score]
    return f"{interval} (over {one.rows - lacking})" if lacking else str(interval)
