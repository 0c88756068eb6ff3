"""What stands for the files of local models: the same for a copy, another one where files are replaced."""

import hashlib
import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from arith.errors import OperandError, reason_of
from arith.operands.classifier import Classifier
from arith.operands.llm import LLM
from arith.operands.locate import locate
from arith.operands.reward_model import RewardModel

Operand = LLM | Classifier | RewardModel
MATTER = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab*", "merges.txt", "chat_template*", "*.model", "*.gguf", "model*.safetensors",
    "adapter_model*.safetensors", "pytorch_model*.bin", "adapter_model*.bin",
)  # fmt: skip
"""Files of a folder that change what its model says."""
BLOCK, BLOCKS = 2**18, 64
"""So many blocks of a longer file are read, evenly spread: training moves weights everywhere."""


def fingerprints(operands: Mapping[str, Operand]) -> dict[str, str]:
    """For each operand with a model or an adapter on this machine what stands for its files; what comes from
    the hub has a revision.

    Raises `OperandError` for a file that can't be read.
    """
    known: dict[str, str | None] = {}
    found = {}
    for name, operand in operands.items():
        paths = [operand.model, operand.adapter] if isinstance(operand, LLM) else [operand.model]
        for path in paths:
            if path is not None and path not in known:
                known[path] = _fingerprint(path)
        parts = [known[path] for path in paths if path is not None]
        if any(parts):
            found[name] = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return found


def _fingerprint(model: str) -> str | None:
    """Of a local model or adapter; None where there is none at that place."""
    files = _files(model)
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        try:
            with open(file, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                digest.update(f"{file.name} {size}\n".encode())
                for place in _places(size):
                    stream.seek(place)
                    digest.update(stream.read(BLOCK))
        except OSError as error:
            raise OperandError(f"{file}: can't be read: {reason_of(error)}") from None
    return digest.hexdigest()


def _places(size: int) -> list[int]:
    """Where the blocks begin that are read."""
    if size <= BLOCK * BLOCKS:
        return list(range(0, size, BLOCK))
    return [(size - BLOCK) * number // (BLOCKS - 1) for number in range(BLOCKS)]


def _files(model: str) -> list[Path]:
    if model.startswith("package:"):
        try:
            location = locate(model)
        except OperandError:  # told where the model is loaded
            return []
        path = Path(location.source) / (location.gguf_file or "")
    else:
        path = Path(os.path.expanduser(model))
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        return []
    return sorted(file for file in path.iterdir() if any(fnmatch(file.name, one) for one in MATTER))
