"""Scores on disk: beside the results, one file a scorer, one object a row."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arith.errors import SpecError, reason_of
from arith.json_lines import appended_objects
from arith.results_file import ResultsFile, Row, RowFormat
from arith.study.results import RESULTS, ResultRow
from arith.study.scoring.scorer import Scored
from grammar.errors import nearest

SCORES = "scores"
NOUN = "score"
FORMAT = RowFormat(
    noun=NOUN,
    required="row",
    run="scorer",
    key=lambda row: str(row["row"]),
    other="the score comes from other settings of the scorer",
    fix="--overwrite scores all rows anew; or give the scorer another name",
)
_LISTED = 3  # of the rows that are missing


@dataclass(frozen=True)
class Scores:
    """The scores of one name `[rows]`, NaN where the scorer could give a row none; `scorer` stands for the
    settings by which they were made."""

    values: Sequence[float]
    scorer: str


def scores_folder(path: Path) -> Path:
    """Where the scores of a sweep's folder, or of a results file, are. Those of a file lie beside it, in a
    folder of its name: several files of one folder have scores of the same names."""
    if path.is_dir():
        return path / SCORES
    return path.parent / SCORES / ("" if path.name == RESULTS else path.stem)


def score_names(path: Path) -> list[str]:
    """The scores that there are of a sweep's folder or a results file."""
    return sorted(file.stem for file in scores_folder(path).glob("*.jsonl"))


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Stands for the settings of a scorer: scores of one file agree in it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


class ScoresFile(ResultsFile):
    """The scores of one name, to be gone on with. Until it is closed it belongs to this process.

    results: the folder of a sweep, or a results file.
    settings: of the scorer.
    overwrite: drop the scores that are there, once there is the first one to write.

    Raises `SpecError` for what can't be written, what another process is writing, and for scores that were
    made by other settings.
    """

    def __init__(self, results: Path, name: str, settings: Mapping[str, Any], *, overwrite: bool = False):
        folder = scores_folder(results)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"{folder}: can't be a folder: {reason_of(error)}") from None
        run = settings_digest(settings)
        path = folder / f"{name}.jsonl"
        self._references: dict[str, object] = {}
        format = replace(FORMAT, key=self._noted)
        super().__init__(path, run=run, resume=not overwrite, overwrite=overwrite, format=format)

    def _noted(self, row: Row) -> str:
        """The key of a score's row. What that was compared with is noted; the last time counts."""
        key = FORMAT.key(row)
        self._references[key] = row.get("reference")
        return key

    def missing(
        self, rows: Sequence[ResultRow], reference: Callable[[ResultRow], str | None] = lambda row: None
    ) -> list[ResultRow]:
        """Those of the rows that have no score yet, or one against another row than its `reference` now."""
        return [
            row for row in rows if row.key not in self.done or self._references[row.key] != reference(row)
        ]

    def add(self, row: ResultRow, scored: Scored) -> None:
        """Write one score and hand it to the system at once. Raises `SpecError` for one that isn't finite."""
        if scored.score is not None and not math.isfinite(scored.score):
            raise SpecError(f"{row.place}: {row}: the score is {scored.score}, which is no finite number")
        self.append(_written(row, scored))


def _written(row: ResultRow, scored: Scored) -> Row:
    return {
        "prompt_id": row.prompt_id,
        "point": dict(row.point),
        "sample": row.sample,
        "score": scored.score,
        **({} if scored.details is None else {"details": dict(scored.details)}),
        **({} if scored.reference is None else {"reference": scored.reference}),
        "row": row.key,
    }


def read_scores(path: Path, name: str, rows: Sequence[ResultRow]) -> Scores:
    """The scores of that name `[rows]` of a sweep's folder or a results file.

    Raises `SpecError` where there are none of that name, where rows have none (it says how many and which),
    and for a line that is no score.
    """
    file = scores_folder(path) / f"{name}.jsonl"
    if not file.exists():
        raise _no_scores(path, name)
    scores: dict[str, float] = {}
    scorers = set()
    for place, content in appended_objects(file, NOUN):
        key, score = content.get("row"), content.get("score", "")
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not isinstance(key, str) or not (number or score is None):
            raise SpecError(f"{place}: not a {NOUN}: it needs `row` and a number as `score`")
        scorers.add(str(content.get("scorer")))
        if len(scorers) > 1:
            raise SpecError(f"{place}: {FORMAT.other} than those above it", FORMAT.fix)
        scores[key] = math.nan if score is None else float(str(score))
    missing = [row for row in rows if row.key not in scores]
    if missing:
        listed = "".join(f"\n  {row}" for row in missing[:_LISTED])
        more = "" if len(missing) <= _LISTED else f"\n  and {len(missing) - _LISTED} more"
        have = "has" if len(missing) == 1 else "have"
        message = f"{file}: {len(missing)} of {len(rows)} rows {have} no score:{listed}{more}"
        raise SpecError(message, _go_on(path, name))
    return Scores([scores[row.key] for row in rows], scorers.pop())


def _no_scores(path: Path, name: str) -> SpecError:
    known = score_names(path)
    close = nearest(name, known)
    there = f"; there are {', '.join(known)}" if known else ""
    hint = f"did you mean `{close}`?" if close else _go_on(path, name)
    return SpecError(f"{path}: there are no scores `{name}`{there}", hint)


def _go_on(path: Path, name: str) -> str:
    return f"`arith score-sweep {path} --with ...` makes those of `{name}` that are missing"
