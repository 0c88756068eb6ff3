"""Finished rows on disk, read to be scored, compared and plotted."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arith.errors import SpecError
from arith.json_lines import appended_objects
from arith.point_text import point_text
from arith.prompts_file import Prompt
from arith.results_file import Row
from arith.runtime.options import in_words
from arith.study.prompt_text import prompt_text

RESULTS = "results.jsonl"
"""The file of a sweep's rows, in its folder."""
KEY = ("prompt", "fields", "point", "occurrence", "sample")
NOUN = "row of results"
_SHOWN = 60  # characters of a prompt
Name = str | int
PointKey = tuple[tuple[str, float | str], ...]
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class ResultRow:
    """One text that a sweep or `arith generate` wrote.

    place: `file:line` of it.
    prompt_id: as its prompts file names the prompt; in a sweep else its number, otherwise None.
    prompt: a text or a list of messages; `fields` are the further ones of its line.
    point: the values of what is swept, or of all parameters where `arith generate` wrote it.
    occurrence: numbers equal prompts of one file, from 0.
    sample: numbers the texts of one prompt at one point, from 0.
    key: stands for the text and for all that tells its row from others (16 hex digits of SHA-256). A score
        belongs to it.
    """

    place: str
    prompt_id: Name | None
    prompt: str | Sequence[Mapping[str, str]]
    fields: Mapping[str, object]
    point: Mapping[str, float | str]
    occurrence: int
    sample: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    key: str

    @property
    def tokens(self) -> int:
        """How many tokens were generated, the one that ends the turn among them."""
        return len(self.token_ids)

    @property
    def whole(self) -> Prompt:
        """The prompt as the engine takes it: with its fields, where it has some."""
        return {"prompt": self.prompt, **self.fields} if self.fields else self.prompt

    @property
    def prompt_key(self) -> str:
        """Equal for rows of equal prompts (fields included), whatever their files call them."""
        return json.dumps([self.prompt, self.fields], sort_keys=True)

    def __str__(self) -> str:
        """The row in words: its prompt, point and sample."""
        shown = " ".join(prompt_text(self.prompt).split())
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
        named = f'prompt "{shown}"' if self.prompt_id is None else f"prompt {self.prompt_id}"
        return ", ".join([named, *filter(None, [point_text(self.point)]), f"sample {self.sample}"])


class _Row(BaseModel):
    """The fields of a line that are read; others are let be."""

    model_config = ConfigDict(extra="ignore", strict=True)

    prompt_id: Name | None = None
    id: Name | None = None
    prompt: str | Messages
    fields: dict[str, Any] = {}
    point: dict[str, float | str] | None = None
    params: dict[str, float] = {}
    occurrence: Annotated[int, Field(ge=0)]
    sample: Annotated[int, Field(ge=0)]
    text: str
    token_ids: Annotated[list[int], Field(strict=True)]
    finish_reason: str


def sweep_key(row: Row) -> str:
    """What makes a row of a sweep this one and no other."""
    return json.dumps([row.get(name) for name in KEY], sort_keys=True)


def point_key(point: Mapping[str, float | str]) -> PointKey:
    """Equal for equal points, however close others are."""
    return tuple(sorted(point.items()))


def results_path(path: Path) -> Path:
    """The file of results that a path means: itself, or the one in the folder of a sweep.

    Raises `SpecError` where there is none.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.exists():
        what = "the folder holds no sweep" if path.is_dir() else "no such file or folder"
        raise SpecError(f"{path}: {what}", "`arith sweep SPEC --prompts FILE --out FOLDER` writes one")
    return file


def read_results(path: Path) -> list[ResultRow]:
    """The rows of the folder of a sweep, or of a results file of `arith generate`, in the file's order.

    A last line that is cut off is left out. Raises `SpecError`: nothing there, no rows, a line that is no row
    of results (with file and line), or one that stands twice.
    """
    file = results_path(path)
    rows: dict[str, ResultRow] = {}
    for place, content in appended_objects(file, NOUN):
        row = _row(content, place)
        first = rows.setdefault(_identity(content, row.point), row)
        if first is not row:
            raise SpecError(f"{place}: the row stands twice (first at {first.place})")
    return list(rows.values())


def _row(content: Mapping[str, object], place: str) -> ResultRow:
    try:
        read = _Row.model_validate(content)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        name = error["loc"][0]
        lacking = error["type"] == "missing"
        problem = f"it has no `{name}`" if lacking else f"`{name}` {in_words(error)}"
        hint = "rows are those of `arith sweep` and `arith generate --out`"
        raise SpecError(f"{place}: not a {NOUN}: {problem}", hint) from None
    point = read.params if read.point is None else read.point
    key = hashlib.sha256(json.dumps([_identity(content, point), read.text]).encode()).hexdigest()[:16]
    return ResultRow(
        place=place,
        prompt_id=read.id if read.prompt_id is None else read.prompt_id,
        prompt=read.prompt,
        fields=read.fields,
        point=point,
        occurrence=read.occurrence,
        sample=read.sample,
        text=read.text,
        token_ids=tuple(read.token_ids),
        finish_reason=read.finish_reason,
        key=key,
    )


def _identity(content: Mapping[str, object], point: Mapping[str, float | str]) -> str:
    """What no other row has, whatever its text."""
    return sweep_key({**content, "point": dict(point)})
