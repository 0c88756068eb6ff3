"""What a trained folder says of itself, so that an operand which names the folder runs as it was trained."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from arith.errors import OperandError
from arith.operands.locate import canonical
from arith.whole_file import write_whole

MANIFEST_NAME = "arith.json"
REWARD_MODEL = "reward_model"


@dataclass(frozen=True)
class Manifest:
    """The file `arith.json` of a folder that was written by training.

    kind: "adapter" (on top of `model`), "model" (a whole causal language model) or "reward_model".
    model, revision: what training started from.
    system, template: the format of the prompts, as operands declare it.
    objective: the name of the objective and its settings, such as beta.
    """

    kind: str
    model: str
    revision: str | None
    system: str | None
    template: str | None
    objective: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Written whole or not at all: a folder with a manifest is a finished one."""
        write_whole(folder / MANIFEST_NAME, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of a local folder, None where there is none. Raises `OperandError` for a damaged one."""
    path = Path(os.path.expanduser(folder)) / MANIFEST_NAME
    if not os.path.isfile(path):  # unlike the path's own method it takes whatever a name may be
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{field.name: content[field.name] for field in fields(Manifest)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OperandError(f"can't read the manifest {path}: {type(error).__name__}: {error}") from None


def text_template(manifest: Manifest) -> str | None:
    """The template by which a reward model reads texts as in its training; None for that of the chat."""
    if manifest.template is None:
        return None
    return f"{'{prompt}' if manifest.template == 'raw' else manifest.template}{{text}}"


def contradictions(name: str, operand: Any) -> list[str]:
    """Where the language model or reward model declared as `name` runs in another way than it was trained."""
    folder = getattr(operand, "adapter", None) or operand.model
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    if manifest.kind == REWARD_MODEL:
        trained = text_template(manifest)
        same = operand.template == trained
        return [] if same else [_otherwise(name, folder, "template", trained, operand.template)]
    found = []
    if operand.adapter and canonical(operand.model) != canonical(manifest.model):
        found.append(f"`{name}`: {folder} was trained on top of {manifest.model}, not of {operand.model}")
    if operand.adapter and operand.revision != manifest.revision:
        found.append(
            f"`{name}`: {folder} was trained on revision {manifest.revision or 'main'} of {manifest.model}, "
            f"not on {operand.revision or 'main'}"
        )
    for field in ("system", "template"):
        trained, given = getattr(manifest, field), getattr(operand, field)
        if trained != given:
            found.append(_otherwise(name, folder, field, trained, given))
    return found


def _otherwise(name: str, folder: str, field: str, trained: object, given: object) -> str:
    return f"`{name}`: {folder} was trained with {field} {trained!r}, and runs with {given!r}"
