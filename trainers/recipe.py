"""The recipe of a training run: a YAML file, checked."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from arith.errors import OperandError, OptionError, SpecError
from arith.local_path import seen_from
from arith.operands import LLM
from arith.spec_operand import operand_keys
from arith.yaml_document import YamlDocument, parse_yaml, read_yaml, write_yaml
from trainers.data.files import is_data_file
from trainers.data.keys import DataKeys, DataSet
from trainers.models.adapter_keys import AdapterKeys
from trainers.objectives.objective import Objective
from trainers.recipe_file import RecipeFile, recipe_in


@dataclass(frozen=True)
class Recipe:
    """A recipe, checked. Local paths in it are absolute, but for hub ids that look like one.

    document: what was read, for the places of later errors. training: arguments of
    `transformers.TrainingArguments`, which checks them.
    """

    document: YamlDocument
    objective: Objective
    operand: LLM
    adapter: AdapterKeys | None
    data: DataKeys
    training: Mapping[str, Any]
    attention: str | None
    output: Path

    @classmethod
    def load(cls, path: str | os.PathLike[str], changes: Iterable[str] = ()) -> "Recipe":
        """Read and check a YAML file; no model and no data is looked for yet.

        changes: `key.key=value` each, set over the file; a path in them is seen from the current folder.
        Raises `SpecError`, which names the file, the line and the key, for whatever is wrong in it, and
        `OptionError` for a change that can't be made, and for what is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise OptionError(
                f"a recipe is loaded from the path of a YAML file, not from {type(path).__name__}"
            )
        if isinstance(changes, str | Mapping):
            raise OptionError(
                f"the changes to a recipe are a list of texts, not {changes!r}",
                '["training.max_steps=100"], say',
            )
        document = read_yaml(Path(path))
        here = {_set(document, change) for change in changes}
        file = recipe_in(document)
        folder = Path(path).resolve().parent

        def located(value: str, *key: str) -> str:
            changed = any(key == one[: len(key)] or one == key[: len(one)] for one in here)
            seen = Path.cwd() if changed else folder
            file = key == ("output",) or (key[0] == "data" and is_data_file(value))
            return os.path.abspath(seen / os.path.expanduser(value)) if file else seen_from(seen, value)

        return cls(
            document=document,
            objective=cast(Objective, file.objective),
            operand=_operand(document, file, located),
            adapter=file.adapter,
            data=_data(file.data, located),
            training=file.training,
            attention=file.attention,
            output=Path(located(file.output, "output")),
        )

    @property
    def folder(self) -> Path:
        """Where the recipe lies."""
        return Path(self.document.source).resolve().parent

    def dump(self) -> dict[str, Any]:
        """The recipe as plain data, its output aside: two runs of equal recipes train the same."""
        content: dict[str, Any] = {
            "objective": self.objective.model_dump(mode="json"),
            "operand": operand_keys(self.operand),
            "adapter": None if self.adapter is None else self.adapter.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "training": dict(self.training),
            "attention": self.attention,
        }
        return {key: value for key, value in content.items() if value is not None}

    def text(self) -> str:
        """The recipe as YAML."""
        return write_yaml({**self.dump(), "output": str(self.output)})


def _operand(document: YamlDocument, file: RecipeFile, located: Any) -> LLM:
    values = file.operand.model_dump(exclude_unset=True)
    for key in ("model", "adapter"):
        if values.get(key) is not None:
            values[key] = located(values[key], "operand", key)
    if values.get("model") is None and values.get("adapter") is None:
        raise SpecError(f"{document.place(('operand',))}: `operand` has no `model`")
    try:
        operand = LLM(**values)
    except OperandError as error:
        # Types and choices are checked by now: what is left concerns the template, or a trained folder.
        place = document.place(("operand", "template"))
        message = f"{place}: {error.message.replace('operand: ', '`operand`: ', 1)}"
        raise SpecError(message, error.hint) from None
    if file.objective.name == "reward" and operand.system is not None:
        raise SpecError(
            f"{document.place(('operand', 'system'))}: a reward model reads no system prompt",
            "leave `operand.system` out",
        )
    return operand


def _data(keys: DataKeys, located: Any) -> DataKeys:
    """With the paths of local files made absolute."""
    changed: dict[str, Any] = {}
    for name in ("train", "validation"):
        value = getattr(keys, name)
        if isinstance(value, DataSet):
            path = located(value.path, "data", name)
            changed[name] = value.model_copy(update={"path": path})
    return keys.model_copy(update=changed)


def _set(document: YamlDocument, change: str) -> tuple[str, ...]:
    """Set one value in the document; returns its key. A mapping on the way that isn't there is made."""
    dotted, equals, text = change.partition("=")
    key = tuple(dotted.strip().split("."))
    if not equals or not all(key) or key[0] not in RecipeFile.model_fields:
        known = ", ".join(RecipeFile.model_fields)
        raise OptionError(f"--set {change}: must be KEY=VALUE", f"the first part of KEY is one of {known}")
    if not isinstance(document.data, dict):
        return key
    place: dict[str, Any] = document.data
    for part in key[:-1]:
        if place.get(part) is None:
            place[part] = {}
        if not isinstance(place[part], dict):
            raise OptionError(f"--set {change}: `{part}` is no mapping of keys to values in the recipe")
        place = place[part]
    place[key[-1]] = parse_yaml(text, f"--set {change}").data
    for inner in [one for one in document.lines if one[: len(key)] == key]:
        del document.lines[inner]
    document.changes[key] = f"--set {change}"
    return key
