"""A sweep as it is written: which names take which values."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from arith.errors import OptionError
from arith.runtime.options import in_words

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Range = Annotated[tuple[float, float], Field(strict=False)]
AXIS_OR_LINK = ("axis", "link")
MOST_POINTS = 100_000  # of a sweep: more are a slip of the pen, and would take all memory before they are run


def _distinct(listed: list[Any]) -> list[Any]:
    seen = set()
    for one in listed:
        if (content := tuple(sorted(one.items())) if isinstance(one, dict) else one) in seen:
            shown = ", ".join(f"{name}={value:g}" for name, value in content) if one is not content else one
            raise PydanticCustomError("twice", "holds {one} twice", {"one": shown})
        seen.add(content)
    return listed


Axis = Annotated[list[float], Field(min_length=1), AfterValidator(_distinct)]
AxisOrLink = Annotated[
    Annotated[Axis, Tag("axis")] | Annotated[Text, Tag("link")],
    Discriminator(lambda value: AXIS_OR_LINK[isinstance(value, str)]),
]


def _formula(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | list | dict) or value == "":
        raise PydanticCustomError("formula", "must be the text of a formula")
    return value


AnyFormula = Annotated[Any, AfterValidator(_formula), WithJsonSchema({"type": "string", "minLength": 1})]


def _alike(points: list[dict[str, float]] | None) -> list[dict[str, float]] | None:
    for number, point in enumerate(points or (), start=1):
        assert points is not None
        if point.keys() != points[0].keys():
            raise PydanticCustomError(
                "unlike", "gives point {number} other names than the first one", {"number": number}
            )
    return None if points is None else _distinct(points)


def _listed(values: object) -> object:
    """As a list: a tuple, a range, or what can tell its values as one (an array, a tensor)."""
    if isinstance(values, tuple | range):
        return list(values)
    return values.tolist() if hasattr(values, "tolist") else values


class Drawn(BaseModel):
    """Points drawn from a box: `count` of them, each name within its `[lowest, highest]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    count: Annotated[int, Field(ge=1, le=MOST_POINTS, description="how many points")]
    ranges: Annotated[
        dict[Name, Range],
        Field(min_length=1, description="the lowest and the highest value of each name"),
    ]
    seed: Annotated[int, Field(ge=0, lt=2**63, description="fixes which points are drawn")] = 0

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name, (low, high) in self.ranges.items():
            if not low < high:
                raise PydanticCustomError(
                    "range", "has a range of `{name}` that doesn't rise", {"name": name}
                )
        return self


class Simplex(BaseModel):
    """All points whose values are multiples of total/steps, not negative, and sum to `total`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    names: Annotated[
        list[Name],
        Field(min_length=2, description="what shares the total"),
        AfterValidator(_distinct),
    ]
    steps: Annotated[int, Field(ge=1, le=1000, description="how many equal parts the total has")]
    total: Annotated[float, Field(gt=0, description="what the values sum to")] = 1.0


class SweepKeys(BaseModel):
    """What a sweep runs through. Each further key is a name: with a list an axis of a grid, with a text an
    expression over the other names. Axes and sets of points are combined in every way."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[Name, AxisOrLink]

    formula: Annotated[
        dict[Name, AnyFormula] | None,
        Field(min_length=1, description="formulas to compare, by names of theirs"),
    ] = None
    points: Annotated[
        list[Annotated[dict[Name, float], Field(min_length=1)]] | None,
        Field(min_length=1, description="points, each a mapping of the same names to values"),
        AfterValidator(_alike),
    ] = None
    random: Annotated[Drawn | None, Field(description="points drawn uniformly")] = None
    sobol: Annotated[Drawn | None, Field(description="points of a scrambled Sobol sequence")] = None
    simplex: Annotated[Simplex | None, Field(description="values that share a total")] = None

    @property
    def axes(self) -> dict[str, list[float]]:
        """The values of each name of the grid."""
        return {name: value for name, value in self._names.items() if isinstance(value, list)}

    @property
    def links(self) -> dict[str, str]:
        """The expression of each name that follows from others."""
        return {name: value for name, value in self._names.items() if isinstance(value, str)}

    @property
    def names(self) -> set[str]:
        """The names whose values it decides."""
        sets = [set(points[0]) for points in (self.points,) if points]
        sets += [set(drawn.ranges) for drawn in (self.random, self.sobol) if drawn is not None]
        return set(self._names).union(*sets, () if self.simplex is None else self.simplex.names)

    @property
    def _names(self) -> Mapping[str, list[float] | str]:
        return self.__pydantic_extra__ or {}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "SweepKeys":
        """The keys of a sweep given in Python, where an axis may also be a tuple, a range, an array or a
        tensor. Raises `OptionError` that names the key at fault."""
        if not isinstance(given, Mapping):
            raise OptionError(f"sweep: it has to be a mapping of names to values, not {given!r}")
        try:
            return cls.model_validate({name: _listed(value) for name, value in given.items()})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"] if part not in (*AXIS_OR_LINK, "[key]"))
            value = first["input"]
            shown = "" if isinstance(value, dict | list) and value else f" (it is {value!r})"
            words = "is missing" if first["type"] == "missing" else f"{in_words(first)}{shown}"
            if first["type"] in ("string_pattern_mismatch", "invalid_key"):
                words = "is no name: it has to be letters, digits and underscores, no digit first"
            raise OptionError(f"sweep: `{key}` {words}") from None
