"""The keys of a judge, as a YAML file has them."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Criterion = Literal["overall", "helpful", "harmless"]
Swap = Literal["both", "random", "none"]
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
"""What endpoints call the limit of a reply's tokens."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _matching(pattern: str, message: str) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("pattern", message)
        return text

    return checked


class Price(BaseModel):
    """What a million tokens cost, in one currency."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    input: Annotated[float, Field(ge=0, description="a million tokens of requests")]
    output: Annotated[float, Field(ge=0, description="a million tokens of replies")]


class JudgeKeys(BaseModel):
    """A language model that gives each of two answers a rating from 1 to 10."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["judge"] = "judge"
    url: Annotated[
        Text,
        AfterValidator(
            _matching(r"https?://[^\s/?#]+[^\s?#]*", "must be a URL, such as http://host:8000/v1")
        ),
        Field(description="of the API, such as http://host:8000/v1"),
    ]
    model: Annotated[Text, Field(description="by the endpoint's name for it")]
    key_env: Annotated[
        Annotated[Text, AfterValidator(_matching(r"[A-Za-z_]\w*", "must be the name of a variable"))] | None,
        Field(description="environment variable that holds the key of the API"),
    ] = None
    criterion: Annotated[Criterion | None, Field(description="what the ratings are about")] = None
    prompt: Annotated[
        Text | None, Field(description="a file with a question of your own, in the place of a criterion")
    ] = None
    temperature: Annotated[float | None, Field(ge=0, description="of the judge; null sends none")] = 0.0
    max_tokens: Annotated[int, Field(ge=1, description="of a reply")] = 512
    extra_body: Annotated[
        dict[Text, Any],
        Field(description="further keys of the requests; null takes a key out of them"),
    ] = {}
    swap: Annotated[
        Swap, Field(description="ask in both orders and average, in one drawn at random, or as they come")
    ] = "both"
    seed: Annotated[int, Field(ge=0, lt=2**63, description="fixes the random orders")] = 0
    cut_at: Annotated[
        list[Text],
        BeforeValidator(_listed),
        Field(description="an answer ends where one of these begins"),
    ] = []
    value: Annotated[
        Literal["win", "rating"],
        Field(description="the score of a row: 1, 0.5 or 0 against its reference, or its own mean rating"),
    ] = "win"
    reference: Annotated[Text | None, Field(description="results with the answers to compare with")] = None
    reference_point: Annotated[
        dict[Text, float | str] | None,
        Field(min_length=1, description="the point of the same sweep to compare with"),
    ] = None
    timeout: Annotated[float, Field(gt=0, description="seconds that a reply may take")] = 60.0
    retries: Annotated[int, Field(ge=0, le=20, description="of a request that fails in passing")] = 5
    concurrency: Annotated[int, Field(ge=1, le=256, description="requests at the same time")] = 4
    price: Annotated[Price | None, Field(description="of a million tokens; the cost is told first")] = None
    max_cost: Annotated[float | None, Field(ge=0, description="refuse what could cost more")] = None
    cache: Annotated[Text, Field(description="file of the replies that there are")] = "judge_cache.jsonl"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.criterion is None) == (self.prompt is None):
            raise PydanticCustomError("question", "needs either `criterion` or `prompt`")
        if self.reference is not None and self.reference_point is not None:
            raise PydanticCustomError("reference", "takes `reference` or `reference_point`, not both")
        if self.max_cost is not None and self.price is None:
            raise PydanticCustomError("price", "needs `price` for `max_cost`")
        if {"model", "messages", "stream"} & self.extra_body.keys():
            raise PydanticCustomError("body", "sets model, messages and stream itself: not in `extra_body`")
        if self.price is not None and self.output_limit is None:
            raise PydanticCustomError("limit", "needs a limit of tokens for `price`")
        return self

    @property
    def output_limit(self) -> int | None:
        """Tokens that a reply has at most; None without a limit."""
        limits = [self.options.get(name) for name in OUTPUT_LIMITS]
        return next((limit for limit in limits if isinstance(limit, int)), None)

    @property
    def options(self) -> dict[str, Any]:
        """The keys of a request beside `messages`."""
        own = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in {**own, **self.extra_body}.items() if value is not None}
