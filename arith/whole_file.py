"""Files that are written whole or not at all."""

import os
from pathlib import Path

PARTIAL = ".part"
"""Ends the name of a file that was cut off in the middle."""


def write_whole(path: Path, text: str) -> None:
    """Writes the text as UTF-8; a file that is there is replaced. Raises `OSError`."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
