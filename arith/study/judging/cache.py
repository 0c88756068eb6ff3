"""Replies on disk, so that no request is paid for twice."""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from arith.errors import SpecError
from arith.results_file import check_writable
from arith.study.judging.reply import Reply

BLOCK = 65536  # bytes read at once from the end


def request_key(url: str, body: Mapping[str, object]) -> str:
    """A digest of the whole request."""
    content = json.dumps([url, body], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class ReplyCache:
    """A JSON Lines file of replies by the digests of their requests.

    A reply is on disk before it is used. Threads and processes may append to one file at the same time; a
    line that was cut off is dropped by whoever appends next. Raises `SpecError` for a file that can't be read
    or written, and for one that holds something else.
    """

    def __init__(self, path: Path):
        self.path = path
        check_writable(path)
        self._threads = threading.Lock()
        self._replies: dict[str, Reply] = {}
        if path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def __getitem__(self, key: str) -> Reply:
        return self._replies[key]

    def add(self, key: str, reply: Reply) -> None:
        """Keeps the reply."""
        line = json.dumps({"request": key, **reply.as_json()}, ensure_ascii=False).encode("utf-8") + b"\n"
        with self._threads:
            try:
                with FileLock(f"{self.path}.lock"), open(self.path, "a+b") as stream:
                    _drop_torn_line(stream)
                    stream.write(line)
            except OSError as error:
                raise self._failed("written", error) from None
            self._replies[key] = reply

    def _read(self) -> None:
        try:
            *whole, _ = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise self._failed("read", error) from None
        for number, line in enumerate(whole, start=1):
            try:
                row = json.loads(line)
                self._replies[row["request"]] = Reply.from_json(row)
            except (ValueError, KeyError, TypeError):
                message = f"{self.path}:{number}: not a reply of a judge"
                raise SpecError(message, "take the line out, or name another file by `cache`") from None

    def _failed(self, what: str, error: OSError) -> SpecError:
        return SpecError(f"{self.path}: can't be {what}: {(error.strerror or str(error)).lower()}")


def _drop_torn_line(stream: BinaryIO) -> None:
    """Cuts the file behind its last end of line. Its lock is held: nobody writes a line any more."""
    start = size = stream.seek(0, os.SEEK_END)
    tail = b""
    while start > 0 and b"\n" not in tail:
        step = min(start, BLOCK)
        start = stream.seek(start - step)
        tail = stream.read(step)
    whole = start + tail.rfind(b"\n") + 1
    if whole < size:
        stream.truncate(whole)
