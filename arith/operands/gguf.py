"""GGUF files as transformers folders: dequantised once to float32 and kept in the user's cache."""

import hashlib
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from arith.errors import OperandError
from arith.operands.hub import reading
from arith.operands.quiet import quiet


def cache_folder() -> Path:
    """Where converted models are kept: $XDG_CACHE_HOME, or the platform's own cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        root = Path(named)
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        root = Path.home() / ".cache"
    return root / "arith" / "gguf"


def conversion_target(path: Path) -> Path:
    """The folder that holds, or will hold, the conversion of the GGUF file at `path` as it is now."""
    from transformers import __version__

    path = path.resolve()
    status = path.stat()
    identity = "\n".join((str(path), str(status.st_size), str(status.st_mtime_ns), __version__))
    return cache_folder() / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def converted_folder(path: Path) -> Path:
    """The transformers folder (float32 weights, config, tokenizer) of the GGUF file at `path`.

    The first call converts, which takes seconds for each hundred million weights; later ones, in this and
    other processes, find the folder. A folder of the final name is complete: it is written under another
    name and renamed. Raises `OperandError` when the file can't be read or the cache can't be written.
    """
    from filelock import FileLock

    target = conversion_target(path)
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_dir():
                _convert_into(path, target)
    except OSError as error:
        raise OperandError(
            f"can't keep the converted {path.name} in {target.parent}: {error.strerror or error}",
            "it needs 4 bytes for each weight; XDG_CACHE_HOME names another place",
        ) from None
    return target


def _convert_into(path: Path, target: Path) -> None:
    """Convert beside `target` and rename; the caller holds the lock."""
    for leftover in target.parent.glob(f"{target.name}.part-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    working = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        _write(path, working)
        for file in working.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _write(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # The progress bar over a GGUF's tensors obeys no setting.
    with reading("the contents", str(path)), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
