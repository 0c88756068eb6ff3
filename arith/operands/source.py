"""What `from_pretrained` is told to find a model."""

from pathlib import Path
from typing import Any

from arith.errors import OperandError
from arith.operands.gguf import conversion, converted_folder
from arith.operands.hub import hub_reachable
from arith.operands.locate import locate


def is_unconverted(model: str) -> bool:
    """Whether reading `model` begins with the conversion of its GGUF file."""
    location = locate(model)
    file = location.gguf_file
    return file is not None and conversion(Path(location.source) / file) is None


def pretrained(model: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """The first argument and the keywords of `from_pretrained` for `model`; a GGUF file is converted once."""
    location = locate(model)
    if not location.local:
        options = {"revision": revision or "main", "local_files_only": not hub_reachable()}
        return location.source, options | {"trust_remote_code": False}
    if revision is not None:
        raise OperandError(f"`revision` is for hub models, and {model} is a local path", "leave it out")
    folder = Path(location.source)
    if location.gguf_file is not None:
        folder = converted_folder(folder / location.gguf_file)
    return str(folder), {"local_files_only": True, "trust_remote_code": False}
