"""Where the rows of a command go: the file of `--out`, or standard output."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from arith.cli.failures import put
from arith.errors import OptionError, SpecError
from arith.results_file import ROWS, ResultsFile, RowFormat


def results_file(
    out: Path | None,
    inputs: Sequence[Path | None],
    run: str,
    *,
    resume: bool,
    overwrite: bool,
    format: RowFormat = ROWS,
) -> ResultsFile | None:
    """The file of `--out`, None without it; `inputs` are the files that the command reads.

    Raises what `ResultsFile` raises, `SpecError` for an input as output, and `OptionError` for `--resume` or
    `--overwrite` without a file.
    """
    if out is None:
        if resume or overwrite:
            raise OptionError("--resume and --overwrite are about a file: name it with --out")
        return None
    refuse_input(out, inputs)
    return ResultsFile(out, run=run, resume=resume, overwrite=overwrite, format=format)


def refuse_input(out: Path, inputs: Sequence[Path | None]) -> None:
    """Raises `SpecError` for an output that is one of the files that the command reads."""
    for path in inputs:
        if path is not None and os.path.realpath(path) == os.path.realpath(out):
            raise SpecError(f"{out}: is read by this command", "name another file to write")


def write_row(row: Mapping[str, object], file: ResultsFile | None) -> None:
    """One finished row, as a line of JSON."""
    if file is None:
        put(json.dumps(row, ensure_ascii=False))
    else:
        file.append(row)


def console(width: int) -> Console:
    """Standard output for tables: as wide as the terminal, or `width` characters for a file or a pipe."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(width=None if terminal else width)
