"""How a row is sampled: the generation options, under transformers' names."""

import re
from typing import Annotated, Any, Literal, Self, get_args

import regex
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from arith.errors import OptionError
from grammar.errors import nearest

# Divided by less than this, even a likely token's log-probability may be too low for a float32.
LOWEST_TEMPERATURE = 1e-30


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | re.Pattern) or callable(value) else value


def is_expression(entry: str) -> bool:
    """Whether a text of `forbid` is a regular expression, and not a word."""
    return len(entry) > 2 and entry[0] == entry[-1] == "/"


def expression_of(entry: str | re.Pattern[Any]) -> regex.Pattern[str]:
    """What matches an entry of `forbid`, capitals or not: a word, `/a regular expression/` or a compiled one.

    A word is a text without a letter, digit or underscore next to its own. Raises `ValueError` that says what
    is wrong with the entry.
    """
    flags = regex.IGNORECASE
    if isinstance(entry, re.Pattern):
        if not isinstance(entry.pattern, str):
            raise ValueError("is a pattern over bytes, and not over text")
        source = entry.pattern
        for name in ("MULTILINE", "DOTALL", "VERBOSE", "ASCII"):
            if entry.flags & getattr(re, name):
                flags |= getattr(regex, name)
    elif is_expression(entry):
        source = entry[1:-1]
    elif not entry.strip():
        raise ValueError("is empty")
    elif entry[0] == "/" and len(entry) > 1:
        raise ValueError(
            "begins like /a regular expression/ and doesn't end like one: no letters stand behind the "
            "last /, and //text/ finds /text"
        )
    else:
        before = r"(?<!\w)" if regex.match(r"\w", entry[0]) else ""
        behind = r"(?!\w)" if regex.match(r"\w", entry[-1]) else ""
        source = before + re.escape(entry) + behind
    try:
        expression = regex.compile(source, flags)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if expression.match("") is not None:
        raise ValueError("matches where there is no text, and so everywhere")
    return expression


def _forbidden(entry: object) -> object:
    """An entry of `forbid`, as it is given."""
    if isinstance(entry, str | re.Pattern):
        try:
            expression_of(entry)
        except ValueError as error:
            raise PydanticCustomError("forbidden", "{what}", {"what": str(error)}) from None
    elif not callable(entry) or isinstance(entry, type):
        raise PydanticCustomError(
            "forbidden", "must be a word, /a regular expression/, or in Python a pattern or function"
        )
    return entry


def _written(entry: Any) -> str:
    """An entry of `forbid` as a file holds it."""
    if isinstance(entry, str):
        return entry
    assert isinstance(entry, re.Pattern), "functions are refused before"
    named = {"m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "a": re.ASCII}
    letters = "".join(letter for letter, flag in named.items() if entry.flags & flag)
    return f"/(?{letters}){entry.pattern}/" if letters else f"/{entry.pattern}/"


class Sampling(BaseModel):
    """The generation options of one call. Everything that reshapes the distribution is off by default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    max_new_tokens: Annotated[int, Field(ge=1, description="tokens to write at most")] = 128
    do_sample: Annotated[bool, Field(description="draw tokens; false takes the most likely one")] = True
    temperature: Annotated[float, Field(ge=0, description="divides the log-weights; 0 is greedy")] = 1.0
    top_k: Annotated[int, Field(ge=0, description="keep the k most likely tokens; 0 is off")] = 0
    top_p: Annotated[
        float, Field(gt=0, le=1, description="keep the smallest set of this probability; 1 is off")
    ] = 1.0
    min_p: Annotated[
        float, Field(ge=0, le=1, description="drop tokens below this share of the most likely; 0 is off")
    ] = 0.0
    repetition_penalty: Annotated[
        float, Field(gt=0, description="penalty on tokens already present; 1 is off")
    ] = 1.0
    stop_strings: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(strict=False, description="end a row when its text contains one of these"),
        BeforeValidator(_listed),
    ] = ()
    forbid: Annotated[
        tuple[
            Annotated[
                Any,
                AfterValidator(_forbidden),
                PlainSerializer(_written, when_used="json"),
                WithJsonSchema({"type": "string"}),
            ],
            ...,
        ],
        Field(strict=False, description="words, or /regular expressions/, that the text may not contain"),
        BeforeValidator(_listed),
    ] = ()
    num_return_sequences: Annotated[int, Field(ge=1, description="samples for each prompt")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63, description="fixes every row's random numbers")] = 0

    @field_validator("temperature")
    @classmethod
    def _can_divide(cls, temperature: float) -> float:
        if 0 < temperature < LOWEST_TEMPERATURE:
            raise PydanticCustomError("too_low", "is too low to divide by; 0 takes the most likely token")
        return temperature

    @property
    def greedy(self) -> bool:
        """Whether rows take the most likely token (transformers' two ways of saying so)."""
        return not self.do_sample or self.temperature == 0

    @classmethod
    def of(cls, options: dict[str, object]) -> "Sampling":
        """The options given as keywords, checked. Raises `OptionError` naming the option at fault."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "sampling"
            if first["type"] == "extra_forbidden":
                close = nearest(name, cls.model_fields)
                hint = (
                    f"did you mean `{close}`?" if close else f"the options are {', '.join(cls.model_fields)}"
                )
                raise OptionError(f"unknown sampling option `{name}`", hint) from None
            raise OptionError(f"sampling option `{name}` = {first['input']!r}: {in_words(first)}") from None


Compile = Literal["auto", "on", "off"]
"""Whether the steps of models are compiled; `auto` does so where it pays."""


def check_compile(compile: object) -> None:
    """Raises `OptionError` for what is none of them."""
    if compile not in get_args(Compile):
        raise OptionError(f"compile is {compile!r}: it has to be one of {', '.join(get_args(Compile))}")


PROMPT_LOOKUP = "prompt_lookup"
"""The draft that looks for a row's last tokens in its own text."""


class Speculate(BaseModel):
    """What drafts tokens, in a specification: a formula over its operands, the row's own text, or the formula
    itself without its `lazy` operands. With `tokens` alone it is what `supersede` says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    draft: Annotated[
        str | None, Field(min_length=1, description=f"a formula over the operands, or {PROMPT_LOOKUP}")
    ] = None
    lazy: Annotated[
        tuple[str, ...],
        Field(strict=False, description="operands without which the formula drafts for itself"),
        BeforeValidator(_listed),
    ] = ()
    tokens: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"],
        Field(description="tokens to draft each time; auto drafts as many as pay"),
    ] = "auto"

    @field_validator("tokens", mode="before")
    @classmethod
    def _number_or_auto(cls, tokens: object) -> object:
        whole = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 1
        if tokens != "auto" and not whole:
            raise PydanticCustomError("tokens", "must be a whole number of at least 1, or auto")
        return tokens

    @property
    def drafts(self) -> bool:
        """Whether it is anything but `NO_DRAFT`."""
        return bool(self.model_fields_set)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        neither = self.draft is None and not self.lazy
        if (neither and "tokens" not in self.model_fields_set) or (self.draft is not None and self.lazy):
            raise PydanticCustomError("one_way", "needs either `draft` or `lazy`")
        return self


NO_DRAFT = Speculate.model_construct()
"""`speculate: false`: nothing is drafted, whatever the formula supersedes."""


def check_max_rows(max_rows: int | None) -> None:
    """Raises `OptionError` for what is no number of rows; None leaves it to the memory."""
    whole = isinstance(max_rows, int) and not isinstance(max_rows, bool)
    if max_rows is not None and not (whole and max_rows >= 1):
        raise OptionError(f"max_rows is {max_rows!r}: it has to be a whole number of at least 1")


_WORDS = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text",
    "string_too_short": "is empty",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


def in_words(error: Any) -> str:
    """What is wrong with a value, from a pydantic error: in words of its user, and not of Python."""
    if "stop_strings" in error["loc"][:2] and error["loc"][0] in ("stop_strings", "sampling"):
        return "must be a text, or a list of texts that aren't empty"
    words = _WORDS.get(error["type"])
    if words is None:
        return re.sub(r"^(input|value|string) should", "must", error["msg"], flags=re.IGNORECASE)
    return words.format(**error.get("ctx", {}))
