"""Rows of whatever a recipe names: a local file, or a data set of the hub."""

import os
from collections.abc import Iterator
from pathlib import Path

from arith.errors import SpecError
from arith.operands.hub import hub_reachable, may_be_hub_id
from trainers.data.files import SUFFIXES, PlacedRow, is_data_file, read_rows
from trainers.data.keys import DataSet

_SHOWN_CHARACTERS = 300


def placed_rows(data: DataSet, folder: Path, *, split: str) -> Iterator[PlacedRow]:
    """The rows with their places. Paths are seen from `folder`; `split` is taken where `data` names none.

    Raises `SpecError` where there is no such file or data set, and as `read_rows` does.
    """
    path = folder / os.path.expanduser(data.path)
    if is_data_file(data.path) or path.is_file():
        _check_file(data, path)
        return read_rows(path)
    if path.is_dir():
        return _data_set_rows(data, str(path), data.split or split, local=True)
    if not may_be_hub_id(data.path):
        endings = f"a local file ends in {', '.join(SUFFIXES)}"
        raise SpecError(f"{data.path}: there is no such file or data set", endings)
    return _data_set_rows(data, data.path, data.split or split, local=False)


def data_set_name(data: DataSet, *, split: str) -> str:
    """What reports call it."""
    return data.path if is_data_file(data.path) else f"{data.path} [{data.split or split}]"


def _check_file(data: DataSet, path: Path) -> None:
    for key in ("name", "data_dir", "split", "revision"):
        if getattr(data, key) is not None:
            raise SpecError(f"{path}: `{key}` belongs to a data set of the hub, and this is a local file")
    if not is_data_file(data.path):
        raise SpecError(f"{path}: a data file ends in {', '.join(SUFFIXES)}")


def _data_set_rows(data: DataSet, path: str, split: str, *, local: bool) -> Iterator[PlacedRow]:
    """Rows of a data set that the `datasets` library finds: on the hub, in its cache or in a local folder."""
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub import constants

    name = f"{path} [{split}]"
    absent = not local and not hub_reachable()
    if absent and not constants.HF_HUB_OFFLINE:
        raise SpecError(
            f"{name}: there is no such file here, and the hub can't be reached",
            "give a local file; or set HF_HUB_OFFLINE=1 for a data set that this machine has in its cache",
        )
    try:
        rows = datasets.load_dataset(
            path, data.name, data_dir=data.data_dir, split=split, revision=data.revision
        )
    except (DatasetsError, OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError) as error:
        if absent and isinstance(error, ConnectionError):
            message = f"{name}: there is no such file here, and the hub's cache on this machine hasn't got it"
            raise SpecError(message, "HF_HUB_OFFLINE forbids asking the hub") from None
        reason: BaseException = error
        while reason.__cause__ is not None:  # the library's own words only say that something went wrong
            reason = reason.__cause__
        words = " ".join(str(reason).split()) or type(reason).__name__
        shown = words if len(words) <= _SHOWN_CHARACTERS else f"{words[:_SHOWN_CHARACTERS]} …"
        raise SpecError(f"{name}: can't be loaded: {shown}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{name}, row {number}", row
