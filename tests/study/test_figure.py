"""The pictures of a trade-off: what is drawn, where, and that any name can be."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from arith.errors import SpecError
from arith.study import figure
from arith.study.figure import Style, draw
from arith.study.frontier import Goal
from arith.study.preference import Preference
from arith.study.series_reading import read_series
from arith.study.trade_off import TradeOff
from tests.study.swept import Point, write_results, write_scores

NAMES = ["good", "length"]


def trade(
    path: Path, points: dict[str, list[tuple[float, float]]], prefer: str | None = None, prompts: int = 4
) -> TradeOff:
    """A series for each name, whose points have these means."""
    series = []
    for number, (label, means) in enumerate(points.items()):
        places: list[Point] = [{"w": float(place)} for place in range(len(means))]
        folder = write_results(path / str(number), places, [f"p{n}" for n in range(prompts)])
        for which, name in enumerate(NAMES):
            values = [mean[which] + 0.1 * (n % 2) for n in range(prompts) for mean in means]
            write_scores(folder, name, values)
        series.append(read_series(label, folder, NAMES))
    preference = None if prefer is None else Preference(prefer)
    return TradeOff(series, Goal("good"), Goal("length", small=True), preference)


def drawn(trade: TradeOff, monkeypatch: pytest.MonkeyPatch, path: Path) -> Any:
    """The axes of the picture as it is written."""
    made: list[Any] = []
    make = figure._figure

    def kept(trade: TradeOff) -> Any:
        made.append(make(trade))
        return made[-1]

    monkeypatch.setattr(figure, "_figure", kept)
    draw(trade, path)
    return made[0].axes[0]


TWO = {"sweep": [(0.0, 5.0), (1.0, 7.0), (0.5, 9.0)], "beside": [(0.2, 8.0)]}


def test_both_files_are_pictures(tmp_path: Path) -> None:
    png, svg = draw(trade(tmp_path, TWO, "good - length"), tmp_path)
    assert (png.name, svg.name) == ("frontier.png", "frontier.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_the_same_numbers_make_the_same_files(tmp_path: Path) -> None:
    one = [path.read_bytes() for path in draw(trade(tmp_path, TWO, "good"), tmp_path)]
    assert [path.read_bytes() for path in draw(trade(tmp_path, TWO, "good"), tmp_path)] == one


def test_points_stand_at_their_means_with_better_up_and_to_the_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = drawn(trade(tmp_path, TWO), monkeypatch, tmp_path)
    blue = Style.of(0).color
    dots = [line for line in axes.get_lines() if line.get_marker() == "o" and line.get_color() == blue]
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in dots) == [
        pytest.approx(pair) for pair in [(0.05, 5.05), (0.55, 9.05), (1.05, 7.05)]
    ]
    hollow = {line.get_xdata()[0] for line in dots if line.get_markerfacecolor() == "white"}
    assert list(hollow) == [pytest.approx(0.55)]  # longer than (1, 7), and less good
    assert axes.yaxis.get_inverted() and not axes.xaxis.get_inverted()
    (stair,) = (line for line in axes.get_lines() if line.get_drawstyle() == "steps-pre")
    assert list(stair.get_xdata()) == pytest.approx([0.05, 1.05])


def test_labels_cover_no_point_and_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = {"sweep": [(0.1 * n, 5 + 0.2 * n) for n in range(9)]}
    axes = drawn(trade(tmp_path, close, "good"), monkeypatch, tmp_path)
    renderer = axes.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    assert len(boxes) >= 7  # one that finds no room is left out
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        for line in axes.get_lines():
            if line.get_marker() == "o":
                assert not box.contains(*axes.transData.transform(line.get_xydata()[0]))


@pytest.mark.parametrize("label", ["_hidden", "$x$ and $", "<b>&", "100% \\alpha", "base + h*helpful"])
def test_a_label_is_drawn_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    axes = drawn(trade(tmp_path, {"sweep": TWO["sweep"], label: [(0.2, 8.0)]}), monkeypatch, tmp_path)
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sweep", label]
    assert not any(text.get_parse_math() for text in legend.get_texts())


def test_one_point_of_one_prompt_can_be_drawn(tmp_path: Path) -> None:
    assert all(path.exists() for path in draw(trade(tmp_path, {"x": [(0.0, 0.0)]}, prompts=1), tmp_path))


def test_where_nothing_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "frontier.png").mkdir()
    with pytest.raises(SpecError, match=r"frontier\.png: can't be written"):
        draw(trade(tmp_path / "own", TWO), tmp_path)
