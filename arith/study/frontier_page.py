"""The page of a trade-off: the picture, with the weights, scores and answers of the point one looks at."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from arith.study.area import Area
from arith.study.bootstrap import Interval
from arith.study.figure import Style, note_of
from arith.study.page import write_page
from arith.study.series import ScoredPoint, Series
from arith.study.trade_off import TradeOff

HTML = "frontier.html"


def write_frontier_page(trade: TradeOff, areas: Sequence[Area], folder: Path) -> Path:
    """Writes `frontier.html`: its path. Raises `SpecError` where it can't be written."""
    data = {
        "x": {"name": trade.x.name, "small": trade.x.small},
        "y": {"name": trade.y.name, "small": trade.y.small},
        "note": note_of(trade),
        "reference": trade.reference_text,
        "preference": None if trade.preference is None else trade.preference.text,
        "series": [
            {**_series(trade, series, number), "area": _numbers(areas[number].size)}
            for number, series in enumerate(trade.series)
        ],
    }
    title = f"{trade.y.name} against {trade.x.name}"
    return write_page(folder / HTML, HTML, title, data)


def _series(trade: TradeOff, series: Series, number: int) -> Mapping[str, object]:
    style = Style.of(number)
    stair = series.frontier(trade.x, trade.y)
    values = trade.values(series)
    return {
        "label": series.label,
        "color": style.color,
        "marker": style.marker,
        "stair": stair,
        "points": [
            {
                **_point(point),
                "frontier": place in stair,
                "joint": place in trade.joint[number],
                "picked": number == 0 and place == trade.picked,
                "value": values[place],
            }
            for place, point in enumerate(series.points)
        ],
    }


def _point(point: ScoredPoint) -> Mapping[str, object]:
    return {
        "label": str(point),
        "scores": {name: _numbers(interval) for name, interval in point.scores.items()},
        "answers": [{"prompt": answer.prompt, "text": answer.text} for answer in point.answers],
    }


def _numbers(interval: Interval) -> list[float | None]:
    """Mean, lowest and highest; JSON has no NaN."""
    return [None if math.isnan(x) else x for x in (interval.mean, interval.low, interval.high)]
