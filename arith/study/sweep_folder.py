"""A sweep on disk: its specification, and a row for each text that is finished."""

import difflib
import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import arith
from arith.errors import SpecError
from arith.prompts_file import PromptLine
from arith.results_file import ResultsFile, Row, RowFormat, finite_or_none
from arith.runtime.rows import occurrences_of
from arith.spec import SPEC_NAME, Spec
from arith.study.results import RESULTS, sweep_key
from arith.whole_file import write_whole
from arith.yaml_document import YamlDocument, parse_yaml, read_yaml, write_yaml

if TYPE_CHECKING:
    from arith.runtime.sweeping.points import Point
    from arith.runtime.sweeping.sweep import SweepResult

NO_MATTER = ("versions", "compile")  # keys of a specification that change no text
PACKAGES = ("torch", "transformers", "peft")


def sweep_heads(lines: Sequence[PromptLine]) -> list[dict[str, object]]:
    """For each prompt what heads its rows; one without an `id` is called by its number, from 0 on."""
    numbers = occurrences_of([line.whole for line in lines])
    return [
        {
            "prompt_id": index if line.id is None else line.id,
            "prompt": line.prompt,
            **({"fields": dict(line.fields)} if line.fields else {}),
            "occurrence": number,
        }
        for index, (line, number) in enumerate(zip(lines, numbers, strict=True))
    ]


def sweep_row(result: "SweepResult", head: Row) -> dict[str, object]:
    """The result as a row of JSON Lines, behind what is known of its prompt."""
    totals = {name: finite_or_none(sum(values)) for name, values in result.logprobs.items()}
    return {
        **head,
        "point": dict(result.point),
        "sample": result.sample,
        "seed": result.seed,
        "text": result.text,
        "token_ids": result.token_ids,
        "logprobs": totals,
        "finish_reason": result.finish_reason,
    }


class SweepFolder:
    """A folder with `spec.yaml`, the specification that is swept with the versions of packages, and
    `results.jsonl`, one object a finished row.

    Rows that are there are kept. Until it is closed the folder belongs to this process. Raises `SpecError`
    for a folder that can't be written, that another process is writing, or that holds the sweep of another
    specification, with what is different.
    """

    def __init__(self, path: Path, spec: Spec, run: str):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"{path}: can't be a folder: {(error.strerror or str(error)).lower()}") from None
        known = _mapping(parse_yaml(spec.dump(), SPEC_NAME))
        self.notes = _compared(path / SPEC_NAME, known)
        self.results = ResultsFile(path / RESULTS, run=run, resume=True, format=RowFormat(key=sweep_key))
        if not (path / SPEC_NAME).exists():
            _write(path / SPEC_NAME, write_yaml({**known, "versions": _versions()}))

    def missing(
        self, heads: Sequence[Row], points: Sequence["Point"], samples: int
    ) -> set[tuple[int, int, int]]:
        """Index of the prompt, index of the point and sample of every row that isn't there."""
        return {
            (index, number, sample)
            for index, head in enumerate(heads)
            for number, point in enumerate(points)
            for sample in range(samples)
            if sweep_key({**head, "point": dict(point.values), "sample": sample}) not in self.results.done
        }


def _versions() -> dict[str, str]:
    return {"arith": arith.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _mapping(document: YamlDocument) -> dict[str, object]:
    return dict(document.data) if isinstance(document.data, dict) else {}


def _compared(path: Path, known: Mapping[str, object]) -> Collection[str]:
    """What is to be said of the specification that is there already, if it is the same one."""
    if not path.exists():
        return ()
    there = _mapping(read_yaml(path))
    versions = there.get("versions")
    before, now_asked = (
        {name: value for name, value in content.items() if name not in NO_MATTER}
        for content in (there, known)
    )
    if before != now_asked:
        lines = difflib.unified_diff(write_yaml(before).splitlines(), write_yaml(now_asked).splitlines(), n=0)
        changes = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        message = f"{path}: the folder holds the sweep of another specification"
        raise SpecError("\n  ".join([message, *changes]), "name another folder with --out")
    now = _versions()
    return [
        f"{name} is {now[name]} now, and was {version} when the sweep began"
        for name, version in (versions.items() if isinstance(versions, dict) else ())
        if now.get(name, version) != version
    ]


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise SpecError(f"{path}: can't be written: {(error.strerror or str(error)).lower()}") from None
