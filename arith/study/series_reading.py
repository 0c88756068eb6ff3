"""From the results and scores of a folder to a series of points."""

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from arith.errors import SpecError
from arith.point_text import exact_text
from arith.study.prompt_text import prompt_text
from arith.study.results import PointKey, ResultRow, point_key, read_results
from arith.study.scores import Scores, read_scores, score_names
from arith.study.series import Answer, ScoredPoint, Series
from arith.study.summary import PointSummary, summaries

SHOWN = 3  # answers of a point
SEED = 0


@dataclass(frozen=True)
class Source:
    """What a series is read from: a sweep's folder or a results file, and the scores that must be there."""

    label: str
    path: Path
    needed: Collection[str]


def read_series(label: str, path: Path, needed: Collection[str]) -> Series:
    """The points of a sweep's folder, or of a results file, with the mean of every score that is complete;
    `needed` are scores that must be there. Raises what `read_together` raises."""
    return read_together([Source(label, path, needed)])[0]


def read_together(sources: Sequence[Source]) -> list[Series]:
    """Series to stand side by side: their means are over the prompts that all of them have.

    Raises `SpecError` where results can't be read or have no prompt in common, where rows have no score that
    is needed, and for a point at which no row has a value of it. `notes` say what is left out: prompts, and
    scores that aren't needed and lack rows; and what can't be compared with the first: scores that were made
    by other settings.
    """
    rows = [read_results(source.path) for source in sources]
    prompts = [{row.prompt_key for row in own} for own in rows]
    common = set.intersection(*prompts)
    if not common:
        paths = " and of ".join(str(source.path) for source in sources)
        raise SpecError(f"no prompt is one of {paths}", "the same prompts have to be answered by all")
    shown = _drawn(common)
    found: list[Series] = []
    for source, own, keys in zip(sources, rows, prompts, strict=True):
        one = _series(source, [row for row in own if row.prompt_key in common], shown)
        lacking = len(keys - common)
        told = f"{source.path}: {lacking} of {len(keys)} prompts aren't in all that is compared: left out"
        notes = [*([told] if lacking else []), *one.notes, *_otherwise_scored(one, found)]
        found.append(replace(one, notes=notes))
    return found


def _otherwise_scored(series: Series, before: Sequence[Series]) -> list[str]:
    return [
        f"{series.label}: `{name}` was made by other settings than that of {first.label}: is it the same?"
        for first in before[:1]
        for name, scorer in first.scorers.items()
        if series.scorers.get(name, scorer) != scorer
    ]


def _series(source: Source, rows: Sequence[ResultRow], shown: Sequence[str]) -> Series:
    # The numbers don't depend on the order in which rows were finished.
    rows = sorted(rows, key=lambda row: (row.prompt_key, row.occurrence, row.sample))
    read, notes = _scores(source.path, rows, source.needed)
    scores = {name: one.values for name, one in read.items()}
    found = summaries(rows, scores)
    _refuse_empty(source.path, found, source.needed)
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
    scorers = {name: one.scorer for name, one in read.items()}
    return Series(source.label, points, shown, [*notes, *_unlike(source.path, found)], scorers)


def _drawn(prompts: Collection[str]) -> list[str]:
    """A few prompts at random, the same at every time. The first in the file are those of short answers."""
    return random.Random(SEED).sample(sorted(prompts), min(SHOWN, len(prompts)))


def _scores(
    path: Path, rows: Sequence[ResultRow], needed: Collection[str]
) -> tuple[Mapping[str, Scores], list[str]]:
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
                raise SpecError(f"{path}: no row at {exact_text(one.point)} has a value of `{name}`")


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
    return [Answer(prompt_text(first[key].prompt), first[key].text) for key in shown if key in first]
