"""From the results and scores of a folder to a series of points."""

import math
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from arith.errors import SpecError
from arith.study.results import PointKey, ResultRow, point_key, point_text, read_results
from arith.study.scores import read_scores, score_names
from arith.study.series import Answer, ScoredPoint, Series
from arith.study.summary import PointSummary, summaries

SHOWN = 3  # answers of a point
SEED = 0


def read_series(
    label: str, path: Path, needed: Collection[str], shown: Sequence[str] | None = None
) -> Series:
    """The points of a sweep's folder, or of a results file, with the mean of every score that is complete.

    needed: scores that must be there.
    shown: keys of the prompts whose answers are kept (`ResultRow.prompt_key`); without them a few are drawn.

    Raises `SpecError` where results can't be read, where rows have no score that is needed, and for a point
    at which no row has a value of it. Scores that aren't needed and lack rows are left out, which `notes`
    say.
    """
    # The numbers don't depend on the order in which rows were finished.
    rows = sorted(read_results(path), key=lambda row: (row.prompt_key, row.occurrence, row.sample))
    scores, notes = _scores(path, rows, needed)
    found = summaries(rows, scores)
    _refuse_empty(path, found, needed)
    shown = _drawn(rows) if shown is None else shown
    places: dict[PointKey, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(point_key(row.point), []).append(place)
    points = []
    for one in found:
        chosen = places[point_key(one.point)]
        own = [rows[place] for place in chosen]
        points.append(
            ScoredPoint(
                values=one.point,
                scores=one.means,
                prompts=[row.prompt_key for row in own],
                row_scores={name: [values[place] for place in chosen] for name, values in scores.items()},
                answers=_answers(own, shown),
            )
        )
    return Series(label, points, shown, [*notes, *_unlike(path, found)])


def _drawn(rows: Sequence[ResultRow]) -> list[str]:
    """A few prompts at random, the same at every time. The first in the file are those of short answers."""
    prompts = sorted({row.prompt_key for row in rows})
    return random.Random(SEED).sample(prompts, min(SHOWN, len(prompts)))


def _scores(
    path: Path, rows: Sequence[ResultRow], needed: Collection[str]
) -> tuple[Mapping[str, list[float]], list[str]]:
    """Each score `[rows]`, those that are needed first, and what is left out."""
    found = {name: read_scores(path, name, rows) for name in needed}
    notes = []
    for name in score_names(path):
        if name not in found:
            try:
                found[name] = read_scores(path, name, rows)
            except SpecError as error:
                notes.append(f"left out: {error.message.splitlines()[0]}")
    return found, notes


def _refuse_empty(path: Path, found: Sequence[PointSummary], needed: Collection[str]) -> None:
    for one in found:
        for name in needed:
            if math.isnan(one.means[name].mean):
                raise SpecError(f"{path}: no row at {point_text(one.point)} has a value of `{name}`")


def _unlike(path: Path, found: Sequence[PointSummary]) -> list[str]:
    """What makes means of different points hard to compare."""
    sizes = sorted({one.rows for one in found})
    notes = []
    if len(sizes) > 1:
        notes.append(f"{path}: points have between {sizes[0]} and {sizes[-1]} rows: the sweep isn't complete")
    for name in found[0].unscored:
        if lacking := sum(one.unscored[name] for one in found):
            total = sum(one.rows for one in found)
            notes.append(
                f"{path}: {lacking} of {total} rows have no value of `{name}`; its means leave them out"
            )
    return notes


def _answers(rows: Sequence[ResultRow], shown: Sequence[str]) -> list[Answer]:
    """The first sample for each of the prompts."""
    first: dict[str, ResultRow] = {}
    for row in rows:
        first.setdefault(row.prompt_key, row)
    return [Answer(_in_words(first[key].prompt), first[key].text) for key in shown if key in first]


def _in_words(prompt: str | Sequence[Mapping[str, str]]) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
