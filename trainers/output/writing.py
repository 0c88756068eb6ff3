"""What can't be written to a run's folder, told in one message."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from arith.errors import SpecError, reason_of

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
# What torch says of files that it can't write to their end: it has no exception of its own.
_OF_TORCH = ("PytorchStreamWriter", "inline_container", "iostream error")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises `SpecError` where what is done inside can't write to the folder, or to a full disk."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error, folder)
        if reason is None:
            raise
        hint = "once it can be, the same command goes on from the last whole checkpoint"
        raise SpecError(f"{folder}: can't be written: {reason}", hint) from error


def _reason(error: Exception, folder: Path) -> str | None:
    """Why something couldn't be written; None where the error is about something else."""
    if isinstance(error, OSError):
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
        told = reason_of(error)
        return told if inside or error.errno in _OF_DISKS else None
    if isinstance(error, SafetensorError):
        return " ".join(str(error).split())
    unfinished = any(word in str(error) for word in _OF_TORCH)
    return "a file came to no end, as on a full disk" if unfinished else None
