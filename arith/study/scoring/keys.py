"""Scorers as a YAML file writes them: a name for each, its kind, and the settings of that kind."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from arith.spec_file import ClassifierKeys, Name, RewardModelKeys, Text
from arith.study.judging.keys import JudgeKeys, Price
from arith.validation import validated
from arith.yaml_document import Key, YamlDocument

Measure = Literal["length", "distinct_1", "distinct_2", "repetition"]


class TextMeasureKeys(BaseModel):
    """What is measured of a text by itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Measure


class LogLikelihoodKeys(BaseModel):
    """log P(text | prompt) under a formula."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["log_likelihood"]
    formula: Annotated[Text, Field(description="over the operands of the specification, such as base")]
    params: Annotated[
        dict[Name, float], Field(description="values in the place of the row's point and the specification")
    ] = {}
    per_token: Annotated[bool, Field(description="divide by the number of tokens")] = False
    spec: Annotated[
        Text | None, Field(description="file or folder of a specification; null takes that of the sweep")
    ] = None


class RewardKeys(RewardModelKeys):
    """The reward of a sequence classification model of one output."""

    kind: Literal["reward"]  # type: ignore[assignment]


class PythonKeys(BaseModel):
    """A function of one's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["python"]
    function: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
            description="package.module:function, of the prompt and the text, or of the row",
        ),
    ]


ScorerKeys = Annotated[
    TextMeasureKeys | LogLikelihoodKeys | RewardKeys | ClassifierKeys | PythonKeys | JudgeKeys,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[BaseModel]] = {
    **dict.fromkeys(("length", "distinct_1", "distinct_2", "repetition"), TextMeasureKeys),
    "log_likelihood": LogLikelihoodKeys,
    "reward": RewardKeys,
    "classifier": ClassifierKeys,
    "python": PythonKeys,
    "judge": JudgeKeys,
}


class ScorersFile(RootModel[Annotated[dict[Name, ScorerKeys], Field(min_length=1)]]):
    """A file of scorers by their names."""


def scorers_in(document: YamlDocument) -> dict[str, ScorerKeys]:
    """The document's data as scorers. Raises `SpecError` for the first thing in it that is wrong."""
    file = validated(
        ScorersFile,
        document,
        noun="scorers file",
        beginning="helpful: {kind: reward, model: ./reward}",
        kinds=KINDS,
        known=_known,
    )
    return file.root


def _known(location: Key) -> Iterable[str]:
    """The keys beside the one at that place: in a scorer, or in the price of a judge."""
    return (KINDS[str(location[1])] if len(location) == 3 else Price).model_fields
