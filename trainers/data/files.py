"""Rows of local files: JSON Lines, JSON, CSV (each also compressed by gzip) and Parquet."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from arith.errors import SpecError, reason_of
from arith.json_lines import strict_json, text_lines

PlacedRow = tuple[str, Mapping[str, object]]
_FIELD_CHARACTERS = 2**31 - 1  # the csv module's own limit is too low for long answers


def is_data_file(path: str) -> bool:
    """Whether the name is that of a file which `read_rows` reads."""
    return path.lower().endswith(SUFFIXES)


def read_rows(path: Path) -> Iterator[PlacedRow]:
    """The rows of a file in order, each with its place: `file:line` for JSON Lines, else `file, row n`.

    Raises `SpecError`, with the place where it concerns one, for a file that can't be read, that isn't what
    its suffix says, and for a row that isn't one.
    """
    name = path.name.lower().removesuffix(".gz")
    reader = next(read for suffix, read in _READERS.items() if name.endswith(suffix))
    if not path.exists():
        raise SpecError(f"{path}: there is no such file")
    try:
        yield from reader(path)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise SpecError(f"{path}: not a whole gzip file") from None
    except OSError as error:
        raise SpecError(f"{path}: {reason_of(error)}") from None


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _json_lines(path: Path) -> Iterator[PlacedRow]:
    with _opened(path) as stream:
        for place, text in text_lines(stream, str(path)):
            yield place, _object(strict_json(text, place), place)


def _json(path: Path) -> Iterator[PlacedRow]:
    with _opened(path) as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start})") from None
    hint = "a file with an object a line ends in .jsonl"
    try:
        rows = strict_json(text, str(path))
    except SpecError as error:
        raise SpecError(error.message, hint) from None
    if not isinstance(rows, list):
        raise SpecError(f"{path}: must be one JSON list of objects", hint)
    for number, row in enumerate(rows, start=1):
        place = f"{path}, row {number}"
        yield place, _object(row, place)


def _object(row: object, place: str) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise SpecError(f'{place}: must be an object such as {{"prompt": "...", "chosen": "..."}}')
    return row


def _csv(path: Path) -> Iterator[PlacedRow]:
    limit = csv.field_size_limit(_FIELD_CHARACTERS)
    number = 0
    try:
        with io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline="") as stream:
            lines = filter(None, csv.reader(stream, strict=True))
            header = next(lines, [])
            if len(set(header)) < len(header):
                raise SpecError(f"{path}: a column's name stands twice in {', '.join(header)}")
            for number, values in enumerate(lines, start=1):
                if len(values) != len(header):
                    raise SpecError(f"{path}, row {number}: {len(values)} values for {len(header)} columns")
                yield f"{path}, row {number}", dict(zip(header, values, strict=True))
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not UTF-8 text (after row {number})") from None
    except csv.Error as error:
        raise SpecError(f"{path}: not well-formed CSV after row {number}: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> Iterator[PlacedRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, ValueError) as error:
        raise SpecError(f"{path}: can't be read as Parquet: {str(error).splitlines()[0]}") from None


_READERS: dict[str, Callable[[Path], Iterator[PlacedRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
