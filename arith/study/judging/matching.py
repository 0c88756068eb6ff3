"""Which rows of two results answer the same prompt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arith.errors import SpecError
from arith.point_text import Value, exact_text, value_text
from arith.study.results import ResultRow, point_key

SHOWN = 3  # of what is lacking


class Match(NamedTuple):
    """What rows that are compared agree in."""

    prompt: str
    occurrence: int
    sample: int


def match_of(row: ResultRow) -> Match:
    """What its counterpart has too."""
    return Match(row.prompt_key, row.occurrence, row.sample)


def at_point(
    rows: Sequence[ResultRow], point: Mapping[str, float | str] | None, source: object
) -> list[ResultRow]:
    """The rows whose point has these values, or else has them as tables show them; without any, all rows,
    which then have one point.

    `source` is what errors call the rows. Raises `SpecError` for a point that isn't there, and where rows of
    several points are left.
    """
    wanted = {} if point is None else dict(point)
    found = [row for row in rows if wanted.items() <= row.point.items()]
    if not found:
        found = [
            row
            for row in rows
            if all(_is_shown_as(row.point.get(name), value) for name, value in wanted.items())
        ]
    points = {point_key(row.point): exact_text(row.point) for row in found or rows}
    listed = "; ".join(list(points.values())[:SHOWN]) + ("; ..." if len(points) > SHOWN else "")
    if not found:
        raise SpecError(f"{source}: no row has the point {exact_text(wanted)}", f"its points: {listed}")
    if len(points) > 1:
        which = "" if point is None else f" with {exact_text(wanted)}"
        message = f"{source}: holds rows of {len(points)} points{which}, and one is needed"
        raise SpecError(message, f"its points: {listed}")
    return found


def _is_shown_as(value: Value | None, wanted: Value) -> bool:
    if value is None or isinstance(value, str):
        return value == wanted
    return wanted in (value, float(value_text(value)))


def by_match(rows: Sequence[ResultRow]) -> dict[Match, ResultRow]:
    """Rows of one point by what their counterparts have too."""
    return {match_of(row): row for row in rows}


def listed_rows(rows: Sequence[ResultRow]) -> str:
    """The first few of the rows, a line each."""
    more = "" if len(rows) <= SHOWN else f"\n  and {len(rows) - SHOWN} more"
    return "".join(f"\n  {row}" for row in rows[:SHOWN]) + more
