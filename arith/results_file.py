"""Results on disk: JSON Lines, appended row by row, so that a run which was cut off can go on."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from filelock import BaseFileLock, FileLock, Timeout

from arith.errors import OptionError, SpecError, reason_of

Row = Mapping[str, object]
KEY = ("prompt", "fields", "completion", "params", "occurrence", "sample")
BEGINNINGS = (b'{"id": ', b'{"prompt": ', b'{"prompt_id": ')  # of every row


def row_key(row: Row) -> str:
    """What makes a row this one and no other: its prompt, the parameters, and which repetition it is."""
    return json.dumps([row.get(name) for name in KEY], sort_keys=True)


@dataclass(frozen=True)
class RowFormat:
    """What the rows of a file have in common.

    noun: what a row is called.
    required: a field that each of them has.
    run: the field with what stands for all that isn't in the rows' keys but changes their content.
    key: tells rows apart.
    other: what is wrong with a row of another run, and `fix` how to mend it.
    """

    noun: str = "row of results"
    required: str = "prompt"
    run: str = "run"
    key: Callable[[Row], str] = row_key
    other: str = "the row comes from another formula, other operands or weights or other options"
    fix: str = "--overwrite starts anew; or name another file"


ROWS = RowFormat()
"""Of what `arith generate` writes."""


class ResultsFile:
    """One results file. Made before the work begins, it refuses what can't be written; opened, it appends.

    path: the file; its folder must exist.
    run: the value of `format.run` in all rows; rows of another are refused.
    resume: keep the rows of an earlier run (`done` has their keys); an unfinished last line is cut off, once
        there is a row to write.
    overwrite: drop what the file holds, once there is the first row to write.
    format: of the rows.

    Until it is closed it belongs to this process: a lock lies beside it, which ends with the process.

    Raises `SpecError` for a folder or file that can't be written, one that another process is writing, an
    existing file with neither option, and for a file to resume that isn't one of these results;
    `OptionError` when both options are given.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: str,
        resume: bool = False,
        overwrite: bool = False,
        format: RowFormat = ROWS,
    ):
        if resume and overwrite:
            raise OptionError("--resume keeps the rows that are there and --overwrite drops them: give one")
        check_writable(path)
        self.path = path
        self.run = run
        self.format = format
        self.done: set[str] = set()
        self._lock = _locked(path)
        self._stream: IO[bytes] | None = None
        self._whole = 0  # bytes of whole rows in a file to resume
        there = os.path.exists(path)
        self._mode = "wb" if overwrite else "ab" if there else "xb"
        try:
            if there and not (resume or overwrite):
                raise self._exists_already()
            if there and resume:
                self._read_done()
        except SpecError:
            self.close()
            raise

    def _read_done(self) -> None:
        if not os.path.isfile(self.path):
            raise SpecError(f"{self.path}: isn't an ordinary file, so there is nothing to resume")
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._failed("read", error) from None
        *whole, tail = content.split(b"\n")
        for number, line in enumerate(whole, start=1):
            self.done.add(self._key_on_disk(line, number))
        if tail and (not _may_begin_row(tail) or _json(tail) is not None):
            self._key_on_disk(tail, len(whole) + 1)  # a row that lacks its end of line only is run again
        self._whole = len(content) - len(tail)

    def _key_on_disk(self, line: bytes, number: int) -> str:
        """The key of a row on disk. Raises `SpecError` for a line that isn't one of this run."""
        row = _json(line)
        place = f"{self.path}:{number}"
        if not isinstance(row, dict) or self.format.required not in row:
            raise SpecError(f"{place}: not a {self.format.noun}", "it was written by something else")
        if row.get(self.format.run) != self.run:
            raise SpecError(f"{place}: {self.format.other}", self.format.fix)
        return self.format.key(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; others may write it then."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._lock is not None and self._lock.is_locked:
            # While the lock is held, or its file could be the one that another process has locked since.
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def append(self, row: Row) -> None:
        """Write one row and hand it to the system at once: it outlives this process however that ends."""
        line = json.dumps({**row, self.format.run: self.run}, ensure_ascii=False, allow_nan=False)
        stream = self.begin()
        rest = memoryview(line.encode("utf-8") + b"\n")
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError as error:
            raise self._failed("written", error) from None
        self.done.add(self.format.key(row))

    def begin(self) -> IO[bytes]:
        """The file, there from now on, without what is to be dropped of it. `append` begins by itself."""
        if self._stream is None:
            try:
                self._stream = self._opened()
            except FileExistsError:
                raise self._exists_already() from None
            except OSError as error:
                raise self._failed("written", error) from None
        return self._stream

    def _opened(self) -> IO[bytes]:
        """The file, without a buffer: what a full disk doesn't take is not tried again at the end."""
        if self._mode == "ab":
            os.truncate(self.path, self._whole)
        return open(self.path, self._mode, buffering=0)

    def _exists_already(self) -> SpecError:
        hint = "--resume goes on with it, --overwrite replaces it"
        return SpecError(f"{self.path}: the file exists already", hint)

    def _failed(self, what: str, error: OSError) -> SpecError:
        return SpecError(f"{self.path}: can't be {what}: {reason_of(error)}")


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity: a log-probability of -inf (the text can't occur) is written as null."""
    return value if math.isfinite(value) else None


def _json(line: bytes) -> object:
    """What the line says; None where it isn't whole JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _may_begin_row(tail: bytes) -> bool:
    return any(tail.startswith(beginning) or beginning.startswith(tail) for beginning in BEGINNINGS)


def _locked(path: Path) -> BaseFileLock | None:
    """The lock of a file that is there or will be. A device (`/dev/stdout`) is nobody's."""
    if os.path.exists(path) and not os.path.isfile(path):
        return None
    lock = FileLock(f"{os.path.realpath(path)}.lock")
    try:
        open(lock.lock_file, "ab").close()  # what can't be created would look like one that is held
        lock.acquire(blocking=False)
    except Timeout:
        hint = "wait until it is done, or name another file"
        raise SpecError(f"{path}: another process is writing to it", hint) from None
    except OSError as error:
        raise SpecError(f"{path}: can't be written there: {reason_of(error)}") from None
    return lock


def check_writable(path: Path) -> None:
    """Raises `SpecError` where no file can be written."""
    if os.path.isdir(path):
        raise SpecError(f"{path}: is a folder", "name the file to write in it")
    if not os.path.isdir(path.parent):
        raise SpecError(f"{path}: the folder {path.parent} doesn't exist", f"mkdir -p {path.parent}")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        raise SpecError(f"{path}: no permission to write there")
