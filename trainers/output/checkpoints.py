"""The checkpoints of a run: which are whole, and what is wrong with the others."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

CUT_OFF = "it was cut off while it was written"
WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
_PREFIX = "checkpoint-"
_STATE = "trainer_state.json"  # which transformers writes last


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first, whether they are whole or not."""
    found = (path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())
    return sorted((path for path in found if _number(path).isdigit()), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step that it was written behind."""
    return int(_number(checkpoint))


def has_weights(folder: Path) -> bool:
    """Whether weights are there, of an adapter or of a whole model."""
    return any((folder / name).is_file() for name in WEIGHTS)


def damage(checkpoint: Path, parts: Sequence[str]) -> str | None:
    """What is wrong with a checkpoint; None for a whole one. transformers passes over files that are missing,
    and so would go on in another way than it began.

    parts: names of files that it must have beside its weights; with none of them the weights lie in files of
    other names too. Raises `OSError` for files that can't be read.
    """
    state = _json(checkpoint / _STATE)
    if state is None:
        return CUT_OFF
    if not isinstance(state, dict) or state.get("global_step") != step_of(checkpoint):
        return f"{_STATE} isn't that of this step"
    index = _json(checkpoint / "model.safetensors.index.json")
    shards = sorted(set(index["weight_map"].values())) if isinstance(index, dict) else []
    for name in (*parts, *shards):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    if parts and not has_weights(checkpoint):
        return "its weights are missing"
    return next((f"{path.name} isn't whole" for path in sorted(checkpoint.iterdir()) if _torn(path)), None)


def _number(checkpoint: Path) -> str:
    return checkpoint.name.removeprefix(_PREFIX)


def _json(path: Path) -> Any:
    """What is written there; None for a file that isn't there or holds no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _torn(path: Path) -> bool:
    """Whether it lacks its end: what weights and torch's files say of themselves tells how long they are."""
    if path.suffix in (".pt", ".pth"):
        return not zipfile.is_zipfile(path)
    if path.suffix != ".safetensors":
        return False
    opened: Any = safe_open
    try:
        with opened(path, framework="pt"):
            return False
    except SafetensorError:
        return True
