"""The picture of a trade-off: points with their intervals, and the frontier of each series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arith.errors import SpecError, reason_of
from arith.study.figure_labels import Label, placed
from arith.study.series import ScoredPoint, Series
from arith.study.trade_off import TradeOff

PNG, SVG = "frontier.png", "frontier.svg"
SIZE = (7.6, 5.4)  # inches
DOTS = 200  # an inch, in PNG
# Told apart by those who see red and green alike: Okabe and Ito (2008), Color universal design.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
MANY = 6.0  # crosses at full strength that all the faint ones of a series come to, at most
INK, FAINT = "#222222", "#777777"


@dataclass(frozen=True)
class Style:
    """How a series looks: the same in the pictures and on the page."""

    color: str
    marker: str

    @classmethod
    def of(cls, number: int) -> "Style":
        """That of the series of this number; they come round again."""
        return cls(COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)])


def draw(trade: TradeOff, folder: Path) -> list[Path]:
    """Writes `frontier.png` and `frontier.svg`: their paths. Better is up and to the right, so that the axis
    of a score that is to be small runs backwards. Raises `SpecError` where they can't be written."""
    import matplotlib

    figure = _figure(trade)
    paths = [folder / PNG, folder / SVG]
    # The same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "arith"}):
        for path, metadata in zip(paths, ({"Software": None}, {"Date": None}), strict=True):
            try:
                figure.savefig(path, dpi=DOTS, metadata=metadata)
            except OSError as error:
                reason = reason_of(error)
                raise SpecError(f"{path}: can't be written: {reason}") from None
    return paths


def _figure(trade: TradeOff) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for number, series in reversed(list(enumerate(trade.series))):
        _draw_series(axes, trade, series, Style.of(number), 2 + len(trade.series) - number)
    picked = trade.picked
    if picked is not None:
        x, y = _position(trade, trade.series[0].points[picked])
        axes.plot([x], [y], "o", markersize=15, markerfacecolor="none", markeredgecolor=INK, zorder=20)
    _dress(axes, trade)
    _legend(axes, trade, picked)
    placed(axes, _labels(trade, picked), [_position(trade, p) for one in trade.series for p in one.points])
    return figure


def _draw_series(axes: Any, trade: TradeOff, series: Series, style: Style, order: float) -> None:
    """Dominated points are pale and hollow; the frontier is a stair, as nothing between two points is
    known."""
    best = series.frontier(trade.x, trade.y)
    faint = min(0.16, MANY / len(series.points))
    if len(best) > 1:
        stair = [_position(trade, series.points[place]) for place in best]
        axes.plot(
            *zip(*stair, strict=True),
            drawstyle="steps-pre",
            color=style.color,
            linewidth=1.6,
            alpha=0.55,
            zorder=order,
        )
    for place, point in enumerate(series.points):
        shown = place in best
        x, y = _position(trade, point)
        axes.errorbar(
            [x],
            [y],
            xerr=_arms(point, trade.x.name),
            yerr=_arms(point, trade.y.name),
            fmt=style.marker,
            color=style.color,
            ecolor=(style.color, 0.4 if shown else faint),
            elinewidth=0.9,
            markersize=7 if shown else 5,
            markerfacecolor=style.color if shown else "white",
            markeredgecolor=style.color if shown else (style.color, 0.6),
            markeredgewidth=1.0,
            zorder=order + (0.5 if shown else 0.2),
        )


def _position(trade: TradeOff, point: ScoredPoint) -> tuple[float, float]:
    return point.scores[trade.x.name].mean, point.scores[trade.y.name].mean


def _arms(point: ScoredPoint, name: str) -> list[list[float]]:
    """How far the interval reaches below and above the mean: `[2, 1]`."""
    interval = point.scores[name]
    return [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]


def _dress(axes: Any, trade: TradeOff) -> None:
    for goal, axis, label in ((trade.x, axes.xaxis, axes.set_xlabel), (trade.y, axes.yaxis, axes.set_ylabel)):
        what = "less is better, so the axis runs backwards" if goal.small else "more is better"
        label(f"{goal.name}  ({what})", parse_math=False, color=INK, fontsize=10.5)
        axis.set_inverted(goal.small)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    axes.margins(0.08)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#aaaaaa")
    axes.set_title(note_of(trade), fontsize=8.5, color=FAINT, loc="left", pad=10)


def note_of(trade: TradeOff) -> str:
    """What is drawn, in one line."""
    counts = sorted({len(one.prompts) for one in trade.series})
    over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "prompt" if counts == [1] else "prompts"
    filled = "the frontier" if len(trade.series) == 1 else "the frontier of its series"
    return f"Means over {over} {noun}, with 95% bootstrap intervals. Filled: on {filled}."


def _legend(axes: Any, trade: TradeOff, picked: int | None) -> None:
    from matplotlib.lines import Line2D

    styles = [Style.of(number) for number in range(len(trade.series))]
    handles = [Line2D([], [], color=s.color, marker=s.marker, markersize=6.5, linewidth=1.6) for s in styles]
    names = [one.label for one in trade.series]
    if picked is not None and trade.preference is not None:
        ring = Line2D([], [], marker="o", markersize=10, linestyle="none", markeredgecolor=INK)
        ring.set_markerfacecolor("none")
        handles.append(ring)
        names.append(f"best by {trade.preference.text}")
    if len(names) == 1:
        return
    # The labels are set afterwards: matplotlib leaves out those that begin with an underscore.
    legend = axes.figure.legend(
        handles,
        ["series"] * len(names),
        loc="outside upper left",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False, color=INK)


def _labels(trade: TradeOff, picked: int | None) -> Sequence[Label]:
    """What is on a frontier is named; a series of one point is named by the legend."""
    found = []
    for number, series in enumerate(trade.series):
        if number and len(series.points) == 1:
            continue
        places = set(series.frontier(trade.x, trade.y)) | ({picked} if number == 0 else set())
        for place, point in enumerate(series.points):
            if place in places and point.values:
                bold = number == 0 and place == picked
                found.append(Label(_short(point), _position(trade, point), Style.of(number).color, bold))
    return found


def _short(point: ScoredPoint) -> str:
    """The point's values in four digits: those of points drawn at random have many."""
    short = {
        name: value if isinstance(value, str) else float(f"{value:.4g}")
        for name, value in point.values.items()
    }
    return str(replace(point, values=short))
