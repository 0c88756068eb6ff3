"""Replies on disk, so that no request is paid for twice."""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from filelock import FileLock

from arith.errors import SpecError, reason_of
from arith.results_file import check_writable
from arith.study.judging.reply import Reply

BLOCK = 65536  # bytes read at once from the end


def request_key(url: str, body: Mapping[str, object]) -> str:
    """A digest of the whole request."""
    content = json.dumps([url, body], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class ReplyCache:
    """A JSON Lines file of replies by the digests of their requests.

    A reply is on disk before it is used. Threads and processes may append to one file at the same time: a
    line that was cut off is dropped by whoever comes next, and who appends also reads what others have
    appended. Raises `SpecError` for a file that can't be read or written, or that holds something else.
    """

    def __init__(self, path: Path):
        self.path = path
        self._threads = threading.Lock()
        self._replies: dict[str, Reply] = {}
        self.read()

    @classmethod
    def at(cls, path: Path) -> "ReplyCache":
        """The cache in this file, as it is now: one for all in this process who name it, however they do."""
        real = os.path.realpath(path)
        found = _CACHES.get(real)
        if found is None:
            found = _CACHES[real] = cls(path)
        else:
            found.read()
        return found

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def __getitem__(self, key: str) -> Reply:
        return self._replies[key]

    def read(self) -> None:
        """Takes over what the file holds now, and nothing else."""
        check_writable(self.path)
        with self._threads:
            self._replies.clear()
            self._bytes = self._lines = 0  # of the file, read so far
            if self.path.exists():
                try:
                    with self._locked(), open(self.path, "r+b") as stream:
                        _end_last_line(stream)
                        self._go_on(stream)
                except OSError as error:
                    raise self._failed("read", error) from None

    def add(self, key: str, reply: Reply) -> None:
        """Keeps the reply, unless another process has got one meanwhile: then that one is kept."""
        line = json.dumps({"request": key, **reply.as_json()}, ensure_ascii=False).encode("utf-8") + b"\n"
        with self._threads:
            try:
                with self._locked(), open(self.path, "a+b") as stream:
                    _end_last_line(stream)
                    self._go_on(stream)
                    if key in self._replies:
                        return
                    stream.write(line)
            except OSError as error:
                raise self._failed("written", error) from None
            self._bytes += len(line)
            self._lines += 1
            self._replies[key] = reply

    def _go_on(self, stream: BinaryIO) -> None:
        """Reads the whole lines behind those that were read; all, where the file has become shorter."""
        if stream.seek(0, os.SEEK_END) < self._bytes:
            self._bytes = self._lines = 0
        stream.seek(self._bytes)
        *whole, _ = stream.read().split(b"\n")
        for line in whole:
            self._lines += 1
            self._bytes += len(line) + 1
            try:
                row = json.loads(line)
                self._replies[row["request"]] = Reply.from_json(row)
            except (ValueError, KeyError, TypeError):
                message = f"{self.path}:{self._lines}: not a reply of a judge"
                raise SpecError(message, "take the line out, or name another file by `cache`") from None

    def _locked(self) -> FileLock:
        return FileLock(f"{os.path.realpath(self.path)}.lock")

    def _failed(self, what: str, error: OSError) -> SpecError:
        return SpecError(f"{self.path}: can't be {what}: {reason_of(error)}")


_CACHES: WeakValueDictionary[str, ReplyCache] = WeakValueDictionary()  # by real paths


def _end_last_line(stream: BinaryIO) -> None:
    """Cuts off a last line that isn't whole, and ends one that only lacks its end. The file's lock is held:
    nobody writes a line any more."""
    start = size = stream.seek(0, os.SEEK_END)
    tail = b""
    while start > 0 and b"\n" not in tail:
        step = min(start, BLOCK)
        start = stream.seek(start - step)
        tail = stream.read(step)
    whole = start + tail.rfind(b"\n") + 1
    if whole < size:
        stream.seek(whole)
        try:
            json.loads(stream.read())
        except ValueError:
            stream.truncate(whole)
        else:
            stream.seek(size)
            stream.write(b"\n")
