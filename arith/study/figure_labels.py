"""Names beside the points of a picture, where they cover least."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# All lengths are in points, of which an inch has 72.
GAPS = (4.5, 9.0, 17.0, 27.0, 40.0)  # between point and label
ANGLES = tuple(math.radians(degrees) for degrees in (50, 20, -20, -50, 130, 160, 200, 230, 90, 270))
NEAR = 17.0  # what is farther away than this gets a line to its point
FONT = 7.5
PAD = 3.0  # what is kept free on both sides of a label
CROWDED = 0.03  # the share of a label that may lie on others, on points, or outside
MARK, RING = 3.6, 8.0  # half the width of a point, and of one with a ring
STEP = 2.0  # between the dots of a line

Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Label:
    """A text for a position, in units of the axes' data."""

    text: str
    position: tuple[float, float]
    color: str
    bold: bool = False


def placed(axes: Any, labels: Sequence[Label], points: Sequence[tuple[float, float]]) -> None:
    """Writes each label near its position: the bold ones first, each where it covers the fewest labels,
    points and lines of what is drawn. One that isn't bold and finds no room is left out."""
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # places are found for the axes as they are now
    renderer = figure.canvas.get_renderer()
    unit = 72 / figure.dpi  # of a pixel
    frame = tuple(unit * axes.get_window_extent(renderer).extents)
    marks = [tuple(unit * axes.transData.transform(point)) for point in points]
    taken: list[Box] = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in marks]
    lines = [dot for line in axes.get_lines() for dot in _dots(line, unit)]
    for label in sorted(labels, key=lambda one: not one.bold):
        text = axes.annotate(
            label.text,
            label.position,
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=FONT,
            color=label.color,
            fontweight="bold" if label.bold else "normal",
            parse_math=False,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            zorder=30,
        )
        left, bottom, right, top = unit * text.get_window_extent(renderer).extents
        x, y = unit * axes.transData.transform(label.position)
        size = (right - left, top - bottom)
        box, distance = min(
            _candidates(x, y, size, RING if label.bold else MARK),
            key=lambda one: _cost(one[0], one[1], taken, lines, frame),
        )
        area = size[0] * size[1]
        unclear = sum(_common(box, other) for other in taken) + area - _common(box, frame)
        if not label.bold and unclear > CROWDED * area:
            text.remove()
            continue
        taken.append((box[0] - PAD, box[1], box[2] + PAD, box[3]))
        text.xyann = (box[0] - x, box[1] - y)
        if distance > NEAR:
            _join(axes, label, box, x, y)


def _join(axes: Any, label: Label, box: Box, x: float, y: float) -> None:
    """A thin line from the point to the nearest place of the label's box."""
    end = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
    axes.annotate(
        "",
        label.position,
        xytext=(end[0] - x, end[1] - y),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": label.color, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1},
        zorder=1,
    )


def _candidates(x: float, y: float, size: tuple[float, float], radius: float) -> list[tuple[Box, float]]:
    """Boxes of this size around a point of that radius, with their distances from it."""
    found = []
    for distance in (radius + gap for gap in GAPS):
        for angle in ANGLES:
            across, up = math.cos(angle) * distance, math.sin(angle) * distance
            left = x + across - (0 if across > 1 else size[0] if across < -1 else size[0] / 2)
            bottom = y + up - size[1] / 2
            found.append(((left, bottom, left + size[0], bottom + size[1]), distance))
    return found


def _cost(
    box: Box, distance: float, taken: Sequence[Box], lines: Sequence[tuple[float, float]], frame: Box
) -> float:
    """Area covered of what is taken, with what lies outside the frame and how far away it is."""
    covered = sum(_common(box, other) for other in taken)
    crossed = sum(box[0] < x < box[2] and box[1] < y < box[3] for x, y in lines)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _common(box, frame)
    return 3 * covered + 4 * crossed + 20 * outside + 2 * distance


def _common(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _dots(line: Any, unit: float) -> list[tuple[float, float]]:
    """Places along a drawn line, close enough to be met by every label across it."""
    path = line.get_path()  # that of the data, before steps
    vertices = unit * line.get_transform().transform(path.vertices)
    found = []
    for (x, y), (to_x, to_y) in pairwise(vertices):
        # A stair goes up or down first, then across.
        for start, end in (((x, y), (x, to_y)), ((x, to_y), (to_x, to_y))):
            count = int(max(abs(end[0] - start[0]), abs(end[1] - start[1])) // STEP) + 1
            found += [
                (start[0] + (end[0] - start[0]) * n / count, start[1] + (end[1] - start[1]) * n / count)
                for n in range(count)
            ]
    return found
