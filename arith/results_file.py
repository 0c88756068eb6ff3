"""Results on disk: JSON Lines, appended row by row, so that a run which was cut off can go on."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from arith.errors import OptionError, SpecError

Row = Mapping[str, object]
KEY = ("prompt", "fields", "completion", "params", "occurrence", "sample")


def row_key(row: Row) -> str:
    """What makes a row this one and no other: its prompt, the parameters, and which repetition it is."""
    return json.dumps([row.get(name) for name in KEY], sort_keys=True)


class ResultsFile:
    """One results file. Made before the work begins, it refuses what can't be written; opened, it appends.

    path: the file; its folder must exist.
    run: stands for all that isn't in the rows' keys but changes their content; rows of another are refused.
    resume: keep the rows of an earlier run (`done` has their keys), an unfinished last line cut off.
    overwrite: drop what the file holds, once there is the first row to write.

    Raises `SpecError` for a folder or file that can't be written, an existing file with neither option, and
    for a file to resume that isn't one of these results; `OptionError` when both options are given.
    """

    def __init__(self, path: Path, *, run: str, resume: bool = False, overwrite: bool = False):
        if resume and overwrite:
            raise OptionError("--resume keeps the rows that are there and --overwrite drops them: give one")
        _check_writable(path)
        if path.exists() and not (resume or overwrite):
            hint = "--resume goes on with it, --overwrite replaces it"
            raise SpecError(f"{path}: the file exists already", hint)
        self.path = path
        self.run = run
        self.done: set[str] = set()
        self._mode = "wb" if overwrite else "ab"
        self._stream: IO[bytes] | None = None
        if resume and path.exists():
            self._read_done()

    def _read_done(self) -> None:
        content = self.path.read_bytes()
        *whole, torn = content.split(b"\n")
        for number, line in enumerate(whole, start=1):
            row = _row(line)
            place = f"{self.path}:{number}"
            if row is None:
                raise SpecError(f"{place}: not a row of results", "it was written by something else")
            if row.get("run") != self.run:
                message = f"{place}: the row comes from another formula, other operands or other options"
                raise SpecError(message, "--overwrite starts anew; or name another file")
            self.done.add(row_key(row))
        os.truncate(self.path, len(content) - len(torn))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def append(self, row: Row) -> None:
        """Write one row and hand it to the system at once: it outlives this process however that ends."""
        line = json.dumps({**row, "run": self.run}, ensure_ascii=False, allow_nan=False)
        try:
            if self._stream is None:
                self._stream = open(self.path, self._mode)  # noqa: SIM115 (closed by __exit__)
            self._stream.write(line.encode("utf-8") + b"\n")
            self._stream.flush()
        except OSError as error:
            raise SpecError(
                f"{self.path}: can't be written: {(error.strerror or str(error)).lower()}"
            ) from None
        self.done.add(row_key(row))


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity: a log-probability of -inf (the text can't occur) is written as null."""
    return value if math.isfinite(value) else None


def _row(line: bytes) -> dict[str, object] | None:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) and "prompt" in row else None


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise SpecError(f"{path}: is a folder", "name the file to write in it")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: the folder {path.parent} doesn't exist", f"mkdir -p {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SpecError(f"{path}: no permission to write there")
