"""Files that are written whole or not at all."""

import os
from pathlib import Path

from arith.errors import SpecError, reason_of

PARTIAL = ".part"
"""Ends the name of a file that was cut off in the middle."""


def write_whole(path: Path, text: str) -> None:
    """Writes the text as UTF-8; a file that is there is replaced. Raises `OSError`."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_output(path: Path, text: str) -> None:
    """The same for a file that the user has asked for. Raises `SpecError`."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise SpecError(f"{path}: can't be written: {reason_of(error)}") from None
