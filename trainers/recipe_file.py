"""A recipe as it is written: its keys, and what is said of those that are wrong."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from arith.spec_file import OperandKeys
from arith.validation import validated
from arith.yaml_document import Key, YamlDocument
from trainers.data.keys import DataKeys, DataSet
from trainers.models.adapter_keys import AdapterKeys
from trainers.objectives import OBJECTIVES, AnyObjective


class RecipeFile(BaseModel):
    """What to train: `arith train` reads it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, title="arith recipe")

    objective: Annotated[AnyObjective, Field(description="what the loss is, with its settings")]
    operand: Annotated[OperandKeys, Field(description="the model to start from, declared as in formulas")]
    adapter: Annotated[
        AdapterKeys | None, Field(description="a LoRA adapter to train; left out, all weights are trained")
    ] = None
    data: Annotated[DataKeys, Field(description="what to train and validate on")]
    training: Annotated[
        dict[str, Any], Field(description="arguments of transformers.TrainingArguments, by their names")
    ] = {}
    attention: Annotated[
        str | None,
        Field(min_length=1, description="attention implementation, by transformers' name for it"),
    ] = None
    output: Annotated[
        str, Field(min_length=1, description="folder of what is trained, seen from the recipe's own")
    ]


_OWNERS: dict[str, type[BaseModel]] = {
    "": RecipeFile,
    "operand": OperandKeys,
    "adapter": AdapterKeys,
    "data": DataKeys,
}


def recipe_in(document: YamlDocument) -> RecipeFile:
    """The document's data as a recipe. Raises `SpecError` for the first thing in it that is wrong."""
    return validated(
        RecipeFile,
        document,
        noun="recipe",
        beginning="objective: {name: arm, beta: 0.05}",
        kinds=OBJECTIVES,
        known=_known,
    )


def _known(location: Key) -> Iterable[str]:
    """The keys beside the one at that place."""
    home = str(location[0]) if len(location) > 1 else ""
    if home == "objective":
        return OBJECTIVES[str(location[1])].model_fields
    if home == "data" and len(location) > 2:
        return DataSet.model_fields
    return _OWNERS[home].model_fields
