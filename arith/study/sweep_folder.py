"""A sweep on disk: its specification, and a row for each text that is finished."""

import difflib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import arith
from arith.errors import SpecError, reason_of
from arith.operands.fingerprint import fingerprints
from arith.prompts_file import PromptLine
from arith.results_file import ResultsFile, Row, RowFormat, finite_or_none
from arith.runtime.rows import occurrences_of
from arith.spec import SPEC_NAME, Spec
from arith.study.results import RESULTS, sweep_key
from arith.whole_file import write_output
from arith.yaml_document import YamlDocument, parse_yaml, read_yaml, write_yaml

if TYPE_CHECKING:
    from arith.runtime.sweeping.points import Point
    from arith.runtime.sweeping.sweep import SweepResult

NO_MATTER = ("versions", "weights", "speculate", "compile", "operator_folders")
"""Keys of a specification that change no text, or are compared by themselves."""
PACKAGES = ("torch", "transformers", "peft")
SHOWN = 80  # characters of a prompt
Which = tuple[str, object]
"""A prompt with its fields, as JSON, and which of equal ones it is."""


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
            raise SpecError(f"{path}: can't be a folder: {reason_of(error)}") from None
        known = _mapping(parse_yaml(spec.dump(), SPEC_NAME))
        weights = fingerprints(spec.operands)
        self.notes = _compared(path / SPEC_NAME, known, weights)
        self._counts: Counter[Which] = Counter()  # of the rows of each prompt
        self._called: dict[Which, object] = {}  # the `prompt_id` of each prompt
        self._names: dict[object, set[str]] = {}  # the prompts of each `prompt_id`
        rows = RowFormat(key=self._noted, fix="name another folder with --out")
        self.results = ResultsFile(path / RESULTS, run=run, resume=True, format=rows)
        if not (path / SPEC_NAME).exists():
            write_output(path / SPEC_NAME, write_yaml({**known, "versions": _versions(), "weights": weights}))

    def _noted(self, row: Row) -> str:
        """The key of a row; its prompt is noted."""
        which, name = _which(row), row.get("prompt_id")
        self._counts[which] += 1
        self._called[which] = name
        self._names.setdefault(name, set()).add(which[0])
        return sweep_key(row)

    def heads(self, lines: Sequence[PromptLine]) -> list[dict[str, object]]:
        """For each prompt what heads its rows. One without an `id` is called as it is in the folder, or else
        by its number, from 0 on; where another is called so, by the next number that is free.

        Raises `SpecError` for two prompts that would have one name.
        """
        numbers = occurrences_of([line.whole for line in lines])
        taken = {*self._names, *(line.id for line in lines)}
        further = count(len(lines))
        found = []
        for index, (line, number) in enumerate(zip(lines, numbers, strict=True)):
            rest = {
                "prompt": line.prompt,
                **({"fields": dict(line.fields)} if line.fields else {}),
                "occurrence": number,
            }
            name = self._called.get(_which(rest)) if line.id is None else line.id
            if name is None:
                name = next(one for one in chain([index], further) if one not in taken)
                taken.add(name)
            found.append({"prompt_id": name, **rest})
        self._refuse_twice(found)
        return found

    def _refuse_twice(self, heads: Sequence[Row]) -> None:
        names = {name: set(prompts) for name, prompts in self._names.items()}
        for head in heads:
            prompt, _ = _which(head)
            known = names.setdefault(head["prompt_id"], {prompt})
            if prompt not in known:
                shown = "\n  ".join(
                    shorten(one, SHOWN, placeholder=" ...") for one in (*sorted(known), prompt)
                )
                message = f"{self.path}: several prompts are called {head['prompt_id']!r}:\n  {shown}"
                raise SpecError(message, "give each its own `id`, or name another folder with --out")

    def others(self, heads: Sequence[Row]) -> int:
        """How many rows there are of other prompts than these."""
        asked = set(map(_which, heads))
        return sum(rows for which, rows in self._counts.items() if which not in asked)

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


def _which(row: Row) -> Which:
    """Which prompt a row is of."""
    content = {"prompt": row["prompt"], **({"fields": row["fields"]} if row.get("fields") else {})}
    return json.dumps(content, sort_keys=True, ensure_ascii=False), row.get("occurrence")


def _versions() -> dict[str, str]:
    return {"arith": arith.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _mapping(document: YamlDocument) -> dict[str, object]:
    return dict(document.data) if isinstance(document.data, dict) else {}


def _compared(path: Path, known: Mapping[str, object], weights: Mapping[str, str]) -> Collection[str]:
    """What is to be said of the specification that is there already, if it is the same one."""
    if not path.exists():
        return ()
    there = _mapping(read_yaml(path))
    asked_before, asked_now = (
        {name: value for name, value in content.items() if name not in NO_MATTER}
        for content in (there, known)
    )
    if asked_before != asked_now:
        lines = difflib.unified_diff(
            write_yaml(asked_before).splitlines(), write_yaml(asked_now).splitlines(), n=0
        )
        changes = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
        message = f"{path}: the folder holds the sweep of another specification"
        raise SpecError("\n  ".join([message, *changes]), "name another folder with --out")
    before = _recorded(there, "weights")
    others = [name for name, digest in weights.items() if before.get(name, digest) != digest]
    if others:
        listed = ", ".join(f"`{name}`" for name in others)
        message = f"{path}: the weights of {listed} aren't those with which the sweep began"
        raise SpecError(message, "put those back, or name another folder with --out")
    now = _versions()
    return [
        f"{name} is {now[name]} now, and was {version} when the sweep began"
        for name, version in _recorded(there, "versions").items()
        if now.get(name, version) != version
    ]


def _recorded(specification: Mapping[str, object], key: str) -> Mapping[str, str]:
    found = specification.get(key)
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
