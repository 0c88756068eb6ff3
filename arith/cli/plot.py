"""`arith plot`: the trade-off of two scores of a sweep, as a table, pictures and a page."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from arith.cli.failures import ends_well, put, say
from arith.cli.flags import number_in
from arith.cli.output import console
from arith.errors import OptionError, SpecError, reason_of

if TYPE_CHECKING:
    from arith.study.area import Area
    from arith.study.frontier import Goal
    from arith.study.preference import Preference
    from arith.study.series import Series
    from arith.study.trade_off import TradeOff

WIDTH = 1000  # characters of a table that goes to a file or a pipe


@ends_well
def plot(
    results: Annotated[Path, typer.Argument(help="folder of a sweep, or results of `arith generate --out`")],
    x: Annotated[str | None, typer.Option(help="score to go right; -NAME where less is better")] = None,
    y: Annotated[str | None, typer.Option(help="score to go up; -NAME where less is better")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=DIR", help="another folder with scores to compare with; may be repeated"),
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="what to pick the best point by, as in `helpful + 2*harmless`")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="where areas are measured from; once for each score"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the pictures; that of the results")] = None,
) -> None:
    """Show what a sweep trades off: the mean scores of each point, and the frontier of two of them.

    Writes frontier.png, frontier.svg and frontier.html, over those that are there. The page shows the
    weights, the scores and three answers of the point that one looks at.
    """
    from arith.study.area import areas_of
    from arith.study.figure import draw
    from arith.study.frontier_page import write_frontier_page
    from arith.study.trade_off import TradeOff

    goals = goals_of(results, x, y)
    preference = None if prefer is None else preference_of(prefer)
    series = read_all(results, beside or (), goals, () if preference is None else preference.names)
    trade = TradeOff(series, *goals, preference, reference_of(reference, goals))
    folder = out or (results if results.is_dir() else results.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{folder}: can't be a folder: {reason_of(error)}") from None
    areas = areas_of(trade)
    put(report(trade, areas))
    for path in (*draw(trade, folder), write_frontier_page(trade, areas, folder)):
        put(f"wrote {path}")


def goals_of(results: Path, x: str | None, y: str | None) -> tuple["Goal", "Goal"]:
    """What goes right and what goes up: the two scores that there are, where neither is named.

    Raises `OptionError` for one without the other, none where there aren't two, and one named twice.
    """
    from arith.study.frontier import Goal
    from arith.study.results import results_path
    from arith.study.scores import score_names

    results_path(results)  # or there is nothing to name scores of
    names = score_names(results)
    if x is None and y is None and len(names) == 2:
        x, y = names
    if x is None or y is None:
        hint = (
            f"there are {', '.join(names)}"
            if names
            else f"`arith score-sweep {results} --with ...` makes some"
        )
        raise OptionError("--x and --y name the two scores to draw", hint)
    right, up = Goal.of(x), Goal.of(y)
    if right.name == up.name:
        raise OptionError(f"--x and --y are both `{up.name}`", "name two scores")
    return right, up


def preference_of(text: str) -> "Preference":
    """What points are picked by. The language of formulas is loaded only where there is one."""
    from arith.study.preference import Preference

    return Preference(text)


def reference_of(given: Sequence[str] | None, goals: tuple["Goal", "Goal"]) -> dict[str, float] | None:
    """The reference's score of each name. Raises `OptionError` unless both names have one."""
    if not given:
        return None
    found: dict[str, float] = {}
    for text in given:
        name, number = pair_of("--reference", text, "NAME=NUMBER")
        if name in found:
            raise OptionError(f"--reference {text}: `{name}` is given twice")
        found[name] = number_in(f"--reference {text}", number)
        if not math.isfinite(found[name]):
            raise OptionError(f"--reference {text}: an area is measured from a finite number")
    names = [goal.name for goal in goals]
    if set(found) != set(names):
        example = " ".join(f"--reference {name}=0" for name in names)
        raise OptionError(f"--reference is about `{names[0]}` and `{names[1]}`", f"give both: {example}")
    return found


def read_all(
    results: Path, beside: Sequence[str], goals: tuple["Goal", "Goal"], preferred: Sequence[str]
) -> list["Series"]:
    """The sweep and what stands beside it; what is to be said of their rows is said.

    Raises what `read_together` raises, and `OptionError` for a label that is given twice.
    """
    from arith.study.series_reading import Source, read_together

    names = [goal.name for goal in goals]
    own = Path(os.path.realpath(results))
    needed = list(dict.fromkeys([*names, *preferred]))
    sources = [Source(own.name if own.is_dir() else own.stem, results, needed)]
    for text in beside:
        label, path = pair_of("--beside", text, "LABEL=DIR")
        if any(label == one.label for one in sources):
            raise OptionError(f"--beside {text}: there are two series called `{label}`")
        sources.append(Source(label, Path(path), names))
    found = read_together(sources)
    for note in (note for one in found for note in one.notes):
        say(note)
    return found


def pair_of(flag: str, text: str, form: str) -> tuple[str, str]:
    """What stands on both sides of the first `=`. Raises `OptionError` where one side is empty."""
    left, equals, right = text.partition("=")
    if not equals or not left.strip() or not right:
        raise OptionError(f"{flag} {text}: must be {form}")
    return left.strip(), right


def report(trade: "TradeOff", areas: Sequence["Area"]) -> str:
    """The table, the areas and the pick, in lines."""
    output = console(WIDTH)
    with output.capture() as captured:
        output.print(table(trade))
    first = trade.series[0]
    lines = [captured.get(), f"hypervolume, from {trade.reference_text}:"]
    width = max(len(one.label) for one in trade.series)
    for number, area in enumerate(areas):
        lead = f"   {first.label} minus {area.label}: {area.lead}" if number else ""
        lines.append(f"  {area.label:<{width}}  {area.size}{lead}")
    picked = trade.picked
    if picked is not None and trade.preference is not None:
        value = trade.values(first)[picked]
        lines.append(f"best by {trade.preference.text}: {first.points[picked].exact} ({value:.4g})")
    return "\n".join(lines)


def table(trade: "TradeOff") -> Table:
    """A row for each point: its scores with their intervals, and whether it is on a frontier."""
    several = len(trade.series) > 1
    names = list(dict.fromkeys(n for one in trade.series for point in one.points for n in point.scores))
    made = Table(*(["series"] if several else []), "point")
    for name in names:
        made.add_column(Text(f"{name} [95%]"), justify="right")
    if trade.preference is not None:
        made.add_column(Text(trade.preference.text), justify="right")
    made.add_column("frontier")
    for number, series in enumerate(trade.series):
        values = trade.values(series)
        for place, point in enumerate(series.points):
            cells = [series.label] if several else []
            cells += [str(point), *(str(point.scores[n]) if n in point.scores else "" for n in names)]
            if trade.preference is not None:
                value = values[place]
                cells.append("" if value is None else f"{value:.4g}")
            made.add_row(*map(Text, (*cells, standing(trade, number, place))))
    return made


def standing(trade: "TradeOff", number: int, place: int) -> str:
    """Whether the point is on the frontier of all series, or of its own only."""
    if place in trade.joint[number]:
        return "yes"
    return "of its series" if place in trade.series[number].frontier(trade.x, trade.y) else ""
