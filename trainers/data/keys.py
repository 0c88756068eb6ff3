"""The keys of a recipe's `data`: which files, whose format, and how long."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Text = Annotated[str, Field(min_length=1)]
SourceName = Literal[
    "preference",
    "hh",
    "hh_transcript",
    "safe_rlhf_helpful",
    "safe_rlhf_harmless",
    "ultrafeedback",
    "alpaca_eval",
]
FRACTION, DATA_SET = "a fraction", "a data set"
"""Tags of what `validation` may be; pydantic puts them into the locations of its errors."""


class DataSet(BaseModel):
    """A local file, or a data set of the hub; text stands for its `path` alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: Annotated[
        Text, Field(description="a local .jsonl, .json, .csv (each also .gz) or .parquet, or hub id")
    ]
    name: Annotated[Text | None, Field(description="configuration of a data set of the hub")] = None
    data_dir: Annotated[Text | None, Field(description="folder in a data set of the hub")] = None
    split: Annotated[
        Text | None,
        Field(description="split of a data set of the hub: train, and for validation test, unless given"),
    ] = None
    revision: Annotated[Text | None, Field(description="branch, tag or commit of a data set of the hub")] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


def _kind(value: Any) -> str:
    return FRACTION if isinstance(value, int | float) else DATA_SET


Validation = Annotated[
    Annotated[Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)], Tag(FRACTION)]
    | Annotated[DataSet, Tag(DATA_SET)],
    Discriminator(_kind),
]


class DataKeys(BaseModel):
    """What to train and validate on. A local path is seen from the folder of the recipe."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[SourceName, Field(description="whose format the rows have")]
    train: Annotated[DataSet, Field(description="what to train on: a local file, a hub id, or a mapping")]
    validation: Annotated[
        Validation | None,
        Field(description="a fraction of the prompts of train, or a data set of its own; null has none"),
    ] = None
    columns: Annotated[
        dict[Text, Text],
        Field(description="the file's names of columns that the source calls otherwise: {prompt: question}"),
    ] = {}
    max_length: Annotated[
        int | None,
        Field(ge=2, description="tokens of prompt and answer; null takes the model's context window"),
    ] = None
    max_prompt_length: Annotated[
        int | None,
        Field(ge=1, description="tokens of the prompt; null takes the model's context window"),
    ] = None
