"""Operands as a specification writes them, and back."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from arith.errors import OperandError, SpecError
from arith.local_path import seen_from
from arith.spec_file import LLMKeys, SpecFile
from arith.yaml_document import YamlDocument

if TYPE_CHECKING:
    from arith.operands import LLM, Classifier, RewardModel

    Operand = LLM | Classifier | RewardModel

PATHS = ("model", "adapter")


def declared_operand(document: YamlDocument, file: SpecFile, name: str) -> "Operand":
    """The operand of that name. Raises `SpecError` with the place of what is wrong with it."""
    from arith.operands import LLM, Classifier, RewardModel

    keys = file.operands[name] or LLMKeys()
    values = keys.model_dump(exclude_unset=True, exclude={"kind"})
    if isinstance(keys, LLMKeys):
        values = file.defaults.model_dump(exclude_unset=True) | values
    where = document.place(("operands", name))
    if values.get("model") is None and values.get("adapter") is None:
        message = f"{where}: the operand `{name}` has no `model`"
        raise SpecError(message, "give it one here or under `defaults`")
    for key in PATHS:
        if values.get(key) is not None:
            values[key] = seen_from(Path(document.source).parent, values[key])
    kinds: dict[str, type[Operand]] = {"llm": LLM, "classifier": Classifier, "reward_model": RewardModel}
    try:
        return kinds[keys.kind](**values)
    except OperandError as error:
        # Types and choices are checked by now: what is left concerns the template, or a trained folder.
        shared = "template" not in keys.model_fields_set and "template" in values
        home = ("defaults",) if shared else ("operands", name)
        place = document.place((*home, "template"))
        message = f"{place}: operand `{name}`: {error.message.removeprefix('operand: ')}"
        raise SpecError(message, error.hint) from None


def operand_keys(operand: "Operand") -> dict[str, object]:
    """The keys that declare the operand; those left out have their defaults. Local paths are absolute."""
    from arith.operands import LLM, Classifier
    from arith.operands.locate import canonical

    kind = "classifier" if isinstance(operand, Classifier) else "reward_model"
    keys: dict[str, object] = {} if isinstance(operand, LLM) else {"kind": kind}
    for field in fields(operand):
        value = getattr(operand, field.name)
        if value != field.default and (value is not None or _told(operand, field.name)):
            keys[field.name] = canonical(value) if field.name in PATHS else value
    return keys


def _told(operand: "Operand", name: str) -> bool:
    """Whether the folder that training wrote tells this key of the operand, where it isn't given."""
    from arith.operands.manifest import read_manifest

    manifest = read_manifest(getattr(operand, "adapter", None) or operand.model)
    return getattr(manifest, name, None) is not None
