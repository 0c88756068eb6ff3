"""Paths that a file names: seen from the folder of that file."""

import os
from pathlib import Path


def seen_from(folder: Path, path: str) -> str:
    """A local path, as seen from the folder of the file that names it, made absolute; others as they are."""
    there = os.path.join(folder, path)
    local = path in (".", "..") or path.startswith(("./", "../"))
    return os.path.abspath(there) if local or (path[0] != "~" and os.path.exists(there)) else path
