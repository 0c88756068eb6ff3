"""A specification as it is written: its keys, their types, and what is said of those that are wrong."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from arith.runtime.options import NO_DRAFT, Compile, Sampling, Speculate
from arith.runtime.sweeping.keys import Drawn, Simplex, SweepKeys
from arith.validation import validated
from arith.yaml_document import Key, YamlDocument

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]


Model = Annotated[Text | None, Field(description="hub id, local folder, GGUF file, or package:NAME/FILE")]
Revision = Annotated[Text | None, Field(description="branch, tag or commit of a hub model")]
DType = Annotated[
    Literal["float32", "bfloat16", "float16", "float64"] | None,
    Field(description="of the weights; null keeps the checkpoint's own where the device computes in it"),
]
DeviceMap = Annotated[Text | None, Field(description="as in transformers, such as auto")]


class OperandKeys(BaseModel):
    """What language models have as operands. A local path is seen from the folder of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Model = None
    adapter: Annotated[Text | None, Field(description="peft adapter: folder or hub id")] = None
    revision: Revision = None
    system: Annotated[str | None, Field(description='system prompt; null sends none, "" an empty one')] = None
    template: Annotated[
        str | None, Field(description="text with {prompt}, or raw; null takes the tokenizer's chat template")
    ] = None
    dtype: DType = None
    quantization: Annotated[Literal["4bit", "8bit"] | None, Field(description="by bitsandbytes")] = None
    device_map: DeviceMap = None
    vocab: Annotated[
        Literal["common", "strict"],
        Field(description="common trims a longer vocabulary to the shared part, strict refuses to"),
    ] = "common"


class LLMKeys(OperandKeys):
    """A causal language model; keys that it doesn't give are those of `defaults`."""

    kind: Annotated[Literal["llm"], Field(description="a causal language model")] = "llm"


class RewardModelKeys(BaseModel):
    """A sequence classification model of one output, for `guide` and `strength`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["reward_model"]
    model: Text
    template: Annotated[
        Text | None, Field(description="text with {text}; null takes the tokenizer's chat template")
    ] = None
    revision: Revision = None
    dtype: DType = None
    device_map: DeviceMap = None


class ClassifierKeys(BaseModel):
    """A sequence classification model and one of its labels, for `guide` and `strength`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["classifier"]
    model: Text
    label: Annotated[str | int, Field(description="a label's name, or its number")]
    template: Annotated[Text, Field(description="text with {text}, the text generated so far")] = "{text}"
    revision: Revision = None
    dtype: DType = None
    device_map: DeviceMap = None


KINDS: dict[str, type[BaseModel]] = {
    "llm": LLMKeys,
    "classifier": ClassifierKeys,
    "reward_model": RewardModelKeys,
}


def _kind(keys: Any) -> str:
    kind = keys.get("kind", "llm") if isinstance(keys, dict) else getattr(keys, "kind", "llm")
    return str(kind)


Operand = Annotated[
    Annotated[LLMKeys | None, Tag("llm")]
    | Annotated[ClassifierKeys, Tag("classifier")]
    | Annotated[RewardModelKeys, Tag("reward_model")],
    Discriminator(_kind),
]


def _switch(value: object) -> object:
    """YAML reads `on` and `off` as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _draft(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
    return NO_DRAFT if value is False else handler(value)


def _or_false(schema: dict[str, Any]) -> None:
    """Lets a JSON Schema of choices take `false` too."""
    schema["anyOf"].append({"const": False})


def _with_formula(kind: str) -> dict[str, Any]:
    """The JSON Schema of what has this type of `formula`."""
    return {"type": "object", "required": ["formula"], "properties": {"formula": {"type": kind}}}


class SpecFile(BaseModel):
    """A specification as it is written; its JSON Schema is what `arith schema` prints."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        title="arith specification",
        json_schema_extra={
            "anyOf": [
                _with_formula("string"),
                {"required": ["sweep"], "properties": {"sweep": _with_formula("object")}},
            ]
        },
    )

    formula: Annotated[
        str | None,
        Field(description="what to generate from, such as base + alpha*arm; else the first of a sweep's"),
    ] = None
    operands: Annotated[
        dict[Name, Operand],
        Field(min_length=1, description="what the names in the formula stand for"),
    ]
    defaults: Annotated[
        OperandKeys, Field(description="keys of every language model that doesn't give its own")
    ] = OperandKeys()
    params: Annotated[dict[Name, float], Field(description="values of the formula's parameters")] = {}
    operators: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]],
        Field(description="operators of one's own, as package.module:function"),
    ] = []
    operator_folders: Annotated[
        list[Text], Field(description="where their modules are looked for, beside the folder of the file")
    ] = []
    sampling: Annotated[Sampling, Field(description="generation options")] = Sampling()
    sweep: Annotated[SweepKeys | None, Field(description="points that `arith sweep` runs")] = None
    speculate: Annotated[
        Speculate | None,
        WrapValidator(_draft),
        Field(
            description="what drafts tokens, by which texts come faster and stay the same; false for nothing",
            json_schema_extra=_or_false,
        ),
    ] = None
    compile: Annotated[
        Compile,
        BeforeValidator(_switch),
        Field(description="make programs of the models' steps; auto does so where it pays"),
    ] = "auto"
    versions: Annotated[dict[str, str], Field(description="of packages, as a record of a sweep")] = {}
    weights: Annotated[
        dict[Name, str], Field(description="what stands for an operand's files, as a record of a sweep")
    ] = {}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of specifications, for editors."""
    return SpecFile.model_json_schema()


def spec_in(document: YamlDocument) -> SpecFile:
    """The document's data as a specification. Raises `SpecError` for the first thing in it that is wrong."""
    return validated(
        SpecFile,
        document,
        noun="specification",
        beginning="formula: base + alpha*arm",
        kinds=KINDS,
        known=_known,
    )


def _known(location: Key) -> Iterable[str]:
    """The keys beside the one at that place."""
    if location[0] == "sweep" and len(location) > 2:
        return (Simplex if location[1] == "simplex" else Drawn).model_fields
    if location[0] == "operands":
        return KINDS[str(location[2])].model_fields
    return _OWNERS[str(location[0]) if len(location) > 1 else ""].model_fields


_OWNERS: dict[str, type[BaseModel]] = {
    "": SpecFile,
    "defaults": OperandKeys,
    "sampling": Sampling,
    "speculate": Speculate,
    "sweep": SweepKeys,
}
