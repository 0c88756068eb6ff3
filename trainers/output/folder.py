"""The folder of a training run: begun, gone on with, or finished."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arith.errors import SpecError, reason_of
from arith.operands.manifest import MANIFEST_NAME
from arith.validation import shown
from arith.whole_file import PARTIAL, write_whole
from arith.yaml_document import read_yaml
from trainers.data.load import Data
from trainers.output.checkpoints import CUT_OFF, checkpoints, damage, has_weights, step_of
from trainers.recipe import Recipe

RECIPE_NAME = "recipe.yaml"
DATA_NAME = "data.json"
REFERENCE_NAME = "reference.safetensors"
_LOCK_NAME = ".lock"


class OutputFolder:
    """The output folder of a recipe, which belongs to this process until it is closed.

    A folder that isn't there, is empty, or has nothing trained in it yet is begun; an unfinished one of the
    same recipe is gone on with, from `checkpoint`; `notes` tell of checkpoints that had to be passed over.
    Raises `SpecError` for a finished one, for one of another recipe (with the difference), for one that holds
    other things or only a damaged checkpoint, for one that another process is writing, and for one that can't
    be written.

    rows_a_step: how many rows all processes take in a step: with another number of them than a run began
        with, the order of its rows would be another.
    parts: the names of the files that a checkpoint of this run must have beside its weights.
    """

    def __init__(self, recipe: Recipe, rows_a_step: int, parts: Sequence[str]):
        self.path = recipe.output
        self.checkpoint: Path | None = None
        self.notes: list[str] = []
        self._recipe = recipe
        self._rows_a_step = rows_a_step
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / _LOCK_NAME)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise SpecError(f"{self.path}: another process is training into it") from None
        except OSError as error:
            raise SpecError(f"{self.path}: can't be written: {reason_of(error)}") from None
        try:
            self._open(parts)
        except OSError as error:
            self.close()
            raise SpecError(f"{error.filename or self.path}: can't be read: {reason_of(error)}") from None
        except SpecError:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the folder."""
        self._lock.release()

    def _open(self, parts: Sequence[str]) -> None:
        names = {file.name for file in self.path.iterdir() if not file.name.endswith(PARTIAL)} - {_LOCK_NAME}
        if not {RECIPE_NAME, DATA_NAME} <= names:
            other = sorted(names - {DATA_NAME})  # which is written first
            if other:
                raise SpecError(f"{self.path}: the folder holds other things ({other[0]} …)", _ANOTHER)
            return
        whole, passed = self._sorted(parts)
        trained = whole is not None or any(trouble != CUT_OFF for trouble in passed.values())
        if MANIFEST_NAME in names or trained or has_weights(self.path):
            differences = self._differences()
            if differences:
                listed = "\n  ".join(differences)
                raise SpecError(f"{self.path}: was begun by another recipe:\n  {listed}", _ANOTHER)
        if MANIFEST_NAME in names:
            raise SpecError(f"{self.path}: this recipe is finished", _ANOTHER)
        if trained:  # before its parts are judged, which are those of as many processes
            self._refuse_other_processes()
        for checkpoint, trouble in passed.items():
            if whole is None and trouble != CUT_OFF:
                raise SpecError(
                    f"{checkpoint}: this checkpoint is damaged ({trouble}), and no other one is whole",
                    "remove it to begin anew",
                )
        for checkpoint, trouble in passed.items():
            # transformers would take it for the newest, and remove the one that is written next.
            shutil.rmtree(checkpoint)
            self.notes.append(f"{checkpoint.name} is passed over, and removed: {trouble}")
        self.checkpoint = whole

    def _sorted(self, parts: Sequence[str]) -> tuple[Path | None, dict[Path, str]]:
        """The newest whole checkpoint, and what is wrong with those behind it."""
        passed: dict[Path, str] = {}
        for checkpoint in checkpoints(self.path):
            trouble = damage(checkpoint, parts)
            if trouble is None:
                return checkpoint, passed
            passed[checkpoint] = trouble
        return None, passed

    def _differences(self) -> list[str]:
        """How the recipe that the folder was begun by differs from this one."""
        there = read_yaml(self.path / RECIPE_NAME).data
        before = {**there, "output": None} if isinstance(there, dict) else {}
        return list(_differences(before, {**self._recipe.dump(), "output": None}))

    def begin(self, data: Data) -> None:
        """Notes what is trained, and on what. Raises `SpecError` where a run that is gone on with began on
        other rows."""
        facts = {
            "digest": _digest(data),
            "rows_a_step": self._rows_a_step,
            "report": str(data.report).splitlines(),
        }
        texts = {  # in this order: a recipe alone may be anyone's
            DATA_NAME: json.dumps(facts, indent=2, ensure_ascii=False) + "\n",
            RECIPE_NAME: self._recipe.text(),
        }
        if self.checkpoint is not None:
            self._refuse_other_data(facts["digest"])
        elif any(_text(self.path / name) != text for name, text in texts.items()):
            (self.path / REFERENCE_NAME).unlink(missing_ok=True)  # that of another recipe, or of other data
        for name, text in texts.items():
            write_whole(self.path / name, text)

    def _begun(self) -> tuple[str, int, list[str]]:
        """On what the run was begun: what stands for the data, the rows of a step, a report of the data."""
        path = self.path / DATA_NAME
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            return before["digest"], before["rows_a_step"], before["report"]
        except (ValueError, KeyError, TypeError):
            raise SpecError(f"{path}: doesn't tell on what data the run was begun", _ANOTHER) from None

    def _refuse_other_data(self, digest: object) -> None:
        before, _, report = self._begun()
        if before != digest:
            there = "\n  ".join(report)
            raise SpecError(f"{self.path}: was begun with other data:\n  {there}", _ANOTHER)

    def _refuse_other_processes(self) -> None:
        _, rows, _ = self._begun()
        if rows != self._rows_a_step:
            raise SpecError(
                f"{self.path}: was begun with {rows} rows a step, and these processes take "
                f"{self._rows_a_step}",
                "start as many processes as then, or remove the folder",
            )

    def finish(self) -> None:
        """Removes what only serves to go on."""
        for checkpoint in checkpoints(self.path):
            shutil.rmtree(checkpoint)


def way_on(folder: Path) -> str:
    """How a run that was stopped goes on, in words."""
    whole = [step_of(one) for one in checkpoints(folder) if damage(one, ()) is None]
    if not whole:
        return "no checkpoint was written yet: the same command begins anew"
    return f"the same command goes on behind step {whole[0]}"


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _digest(data: Data) -> str:
    """Stands for all rows, in their order."""
    digest = hashlib.sha256()
    for name, rows in (("train", data.train), ("validation", data.validation)):
        digest.update(name.encode())
        for row in rows or ():
            digest.update(json.dumps([row.get(column) for column in _IDS]).encode())
    return digest.hexdigest()


_IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
_ANOTHER = "name another `output`, or remove the folder"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], around: str = "") -> Iterator[str]:
    """Each value that differs, as `key: before -> now`."""
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{around}{key}.")
        else:
            yield f"{around}{key}: {_value(old)} -> {_value(new)}"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else shown(value)
