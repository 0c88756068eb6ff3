"""The folder of a training run: begun, gone on with, or finished."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arith.errors import SpecError
from arith.operands.manifest import MANIFEST_NAME
from arith.validation import shown
from arith.whole_file import PARTIAL, write_whole
from arith.yaml_document import read_yaml
from trainers.data.load import Data
from trainers.recipe import Recipe

RECIPE_NAME = "recipe.yaml"
DATA_NAME = "data.json"
_LOCK_NAME = ".lock"
_CHECKPOINT = "checkpoint-"
_STATE_NAME = "trainer_state.json"  # which transformers writes last into a checkpoint


class OutputFolder:
    """The output folder of a recipe, which belongs to this process until it is closed.

    A folder that isn't there, or is empty, is begun; an unfinished one of the same recipe is gone on with.
    Raises `SpecError` for a finished one, for one of another recipe (with the difference), for one that
    holds other things, for one that another process is writing, and for one that can't be written.
    """

    def __init__(self, recipe: Recipe):
        self.path = recipe.output
        self._recipe = recipe
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / _LOCK_NAME)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise SpecError(f"{self.path}: another process is training into it") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SpecError(f"{self.path}: can't be written: {reason}") from None
        try:
            self._check()
        except SpecError:
            self.close()
            raise
        self.checkpoint = self._last_checkpoint()

    def close(self) -> None:
        """Lets go of the folder."""
        self._lock.release()

    def _check(self) -> None:
        names = (file.name for file in self.path.iterdir())
        other = [name for name in names if name != _LOCK_NAME and not name.endswith(PARTIAL)]
        if not other:
            return
        if RECIPE_NAME not in other:
            raise SpecError(f"{self.path}: the folder holds other things ({sorted(other)[0]} …)", _ANOTHER)
        there = read_yaml(self.path / RECIPE_NAME).data
        before = {**there, "output": None} if isinstance(there, dict) else {}
        differences = list(_differences(before, {**self._recipe.dump(), "output": None}))
        if differences:
            listed = "\n  ".join(differences)
            raise SpecError(f"{self.path}: was begun by another recipe:\n  {listed}", _ANOTHER)
        if MANIFEST_NAME in other:
            raise SpecError(f"{self.path}: this recipe is finished", _ANOTHER)

    def _last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint; those that were cut off in the middle are removed."""
        found = sorted(self.path.glob(f"{_CHECKPOINT}*"), key=_step, reverse=True)
        for checkpoint in found:
            try:
                json.loads((checkpoint / _STATE_NAME).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                shutil.rmtree(checkpoint)
            else:
                return checkpoint
        return None

    def begin(self, data: Data, rows_a_step: int) -> None:
        """Notes what is trained, and on what. Raises `SpecError` where a run that is gone on with began on
        other rows, or with another number of them in a step: their order would be another."""
        facts = {
            "digest": _digest(data),
            "rows_a_step": rows_a_step,
            "report": str(data.report).splitlines(),
        }
        path = self.path / DATA_NAME
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["digest"] != facts["digest"]:
                there = "\n  ".join(before["report"])
                raise SpecError(f"{self.path}: was begun with other data:\n  {there}", _ANOTHER)
            if before["rows_a_step"] != rows_a_step:
                raise SpecError(
                    f"{self.path}: was begun with {before['rows_a_step']} rows a step, and these processes "
                    f"take {rows_a_step}",
                    "start as many processes as then, or remove the folder",
                )
        write_whole(self.path / RECIPE_NAME, self._recipe.text())
        write_whole(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Removes what only serves to go on."""
        for checkpoint in self.path.glob(f"{_CHECKPOINT}*"):
            shutil.rmtree(checkpoint)


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


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(_CHECKPOINT)
    return int(number) if number.isdigit() else -1


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
