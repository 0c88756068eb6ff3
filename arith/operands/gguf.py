"""GGUF files as transformers folders: dequantised once to float32 and kept in the user's cache."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from arith.errors import OperandError
from arith.operands.hub import reading
from arith.operands.quiet import quiet

MANIFEST = "conversion.json"
# The few bits of a quantised weight survive it, and it halves memory. The files keep float32, so that
# `dtype: float32`, and a device which doesn't compute in bfloat16, lose nothing.
COMPUTE_DTYPE = "bfloat16"
ENDS = 2**22  # bytes at each end of a file that the manifest covers


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
    facts = (path, status.st_size, status.st_mtime_ns, __version__, COMPUTE_DTYPE)
    identity = "\n".join(map(str, facts))
    return cache_folder() / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def conversion(path: Path) -> Path | None:
    """The folder with the conversion of the GGUF file at `path`, None where there is none that is whole."""
    target = conversion_target(path)
    try:
        whole = json.loads((target / MANIFEST).read_text()) == _manifest(target)
    except (OSError, ValueError):
        return None
    return target if whole else None


def converted_folder(path: Path) -> Path:
    """The transformers folder of the GGUF file at `path`: float32 weights, tokenizer, and a config that names
    `COMPUTE_DTYPE`.

    The first call converts, which takes seconds for each hundred million weights; later ones, in this and
    other processes, find the folder. It is written under another name and renamed, and one that was damaged
    since is made anew. Raises `OperandError` when the file can't be read or the cache can't be written.
    """
    from filelock import FileLock

    found = conversion(path)
    if found is not None:
        return found
    target = conversion_target(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if conversion(path) is None:
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
    discarded = working.with_name(f"{working.name}-old")
    try:
        _write(path, working)
        (working / MANIFEST).write_text(json.dumps(_manifest(working)))
        for file in working.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        if target.exists():  # and is damaged
            target.rename(discarded)
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
        shutil.rmtree(discarded, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, list[int | str]]:
    """For each file its size, and a digest of its ends: all of a small file, and enough of large ones."""
    found: dict[str, list[int | str]] = {}
    for file in sorted(folder.iterdir()):
        if file.name != MANIFEST:
            size = file.stat().st_size
            with file.open("rb") as stream:
                content = stream.read(ENDS)
                stream.seek(max(0, size - ENDS))
                content += stream.read(ENDS)
            found[file.name] = [size, hashlib.sha256(content).hexdigest()]
    return found


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
        model.config.dtype = COMPUTE_DTYPE
        model.config.save_pretrained(folder)
