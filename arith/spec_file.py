"""A specification as it is written: its keys, their types, and what is said of those that are wrong."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arith.errors import SpecError
from arith.runtime.options import Sampling
from arith.yaml_document import Key, YamlDocument
from grammar.errors import nearest

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]


class OperandKeys(BaseModel):
    """One operand, or what all operands share. A local path is seen from the folder of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[
        Text | None, Field(description="hub id, local folder, GGUF file, or package:NAME/FILE")
    ] = None
    adapter: Annotated[Text | None, Field(description="peft adapter: folder or hub id")] = None
    revision: Annotated[Text | None, Field(description="branch, tag or commit of a hub model")] = None
    system: Annotated[str | None, Field(description='system prompt; null sends none, "" an empty one')] = None
    template: Annotated[
        str | None, Field(description="text with {prompt}, or raw; null takes the tokenizer's chat template")
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "float64"] | None,
        Field(description="of the weights; null keeps the checkpoint's own where the device computes in it"),
    ] = None
    quantization: Annotated[Literal["4bit", "8bit"] | None, Field(description="by bitsandbytes")] = None
    device_map: Annotated[Text | None, Field(description="as in transformers, such as auto")] = None
    vocab: Annotated[
        Literal["common", "strict"],
        Field(description="common trims a longer vocabulary to the shared part, strict refuses to"),
    ] = "common"


class SpecFile(BaseModel):
    """A specification as it is written; its JSON Schema is what `arith schema` prints."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, title="arith specification")

    formula: Annotated[str, Field(description="what to generate from, such as base + alpha*arm")]
    operands: Annotated[
        dict[Name, OperandKeys | None],
        Field(min_length=1, description="what the names in the formula stand for"),
    ]
    defaults: Annotated[OperandKeys, Field(description="keys of every operand that doesn't give its own")] = (
        OperandKeys()
    )
    params: Annotated[dict[Name, float], Field(description="values of the formula's parameters")] = {}
    sampling: Annotated[Sampling, Field(description="generation options")] = Sampling()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of specifications, for editors."""
    return SpecFile.model_json_schema()


def validated(document: YamlDocument) -> SpecFile:
    """The document's data as a specification. Raises `SpecError` for the first thing in it that is wrong."""
    if not isinstance(document.data, dict):
        message = f"{document.place(())}: a specification is a mapping of keys to values"
        raise SpecError(message, "it begins, say, with the line `formula: base + alpha*arm`")
    try:
        return SpecFile.model_validate(document.data)
    except ValidationError as invalid:
        first = min(invalid.errors(), key=lambda error: document.lines.get(_key(error), 0))
        message, hint = _explained(first)
        raise SpecError(f"{document.place(_key(first))}: {message}", hint) from None


def _key(error: Any) -> Key:
    """The place of a pydantic error in the document; pydantic marks an error in a key by a last `[key]`."""
    location: Key = error["loc"]
    return location[:-1] if location and location[-1] == "[key]" else location


def _explained(error: Any) -> tuple[str, str | None]:
    """What is wrong in words of the file, and the likely fix."""
    key, kind, value = _key(error), error["type"], error["input"]
    dotted = ".".join(map(str, key))
    if kind == "extra_forbidden":
        known = _OWNERS[str(key[0]) if len(key) > 1 else ""].model_fields
        close = nearest(str(key[-1]), known)
        return f"unknown key `{dotted}`", f"did you mean `{close}`?" if close else f"keys: {', '.join(known)}"
    if kind == "missing":
        return f"the key `{dotted}` is missing", None
    if error["loc"][-1:] == ("[key]",):
        return f"`{dotted}`: a name is letters, digits and underscores, and doesn't start with a digit", None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"`{dotted}` must be a mapping of keys to values, not {_shown(value)}", None
    if kind == "string_type":
        scalar = isinstance(value, int | float)
        return f"`{dotted}` must be text, not {_shown(value)}", "put it in quotes" if scalar else None
    words = re.sub(
        r"^(input|value|dictionary|tuple|string) should", "must", error["msg"], flags=re.IGNORECASE
    )
    return f"`{dotted}` {words} (it is {_shown(value)})", None


_OWNERS: dict[str, type[BaseModel]] = {
    "": SpecFile,
    "operands": OperandKeys,
    "defaults": OperandKeys,
    "sampling": Sampling,
}


def _shown(value: object) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)
