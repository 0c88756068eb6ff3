"""A sweep as rows of one engine: every point of every prompt."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from arith.errors import OptionError
from arith.runtime.result import Result
from arith.runtime.rows import as_prompts, occurrences_of
from arith.runtime.sweeping.keys import SweepKeys
from arith.runtime.sweeping.points import Point, points_of, refuse_unknown

if TYPE_CHECKING:
    from arith.runtime.engine import Engine


@dataclass(frozen=True)
class SweepResult(Result):
    """One finished row of a sweep: a `Result`, with the values of its point and the point's number."""

    point: Mapping[str, float | str]
    point_index: int


def chosen_points(
    engine: "Engine", sweep: Mapping[str, Any] | None, params: Mapping[str, float] | None
) -> Sequence[Point]:
    """The points of a sweep that is given, or of the engine's own.

    Raises `OptionError` where there is none, and what `points_of` and `refuse_unknown` raise.
    """
    if params is not None and not isinstance(params, Mapping):
        raise OptionError(f"params: all points have the same, in one dict, and not {params!r}")
    if sweep is not None:
        keys = SweepKeys.of(sweep)
        refuse_unknown(params or (), keys, engine.formula)
        return points_of(keys, engine.formula, params or {})
    if not engine.points:
        raise OptionError("there is nothing to sweep", 'give a sweep, such as {"alpha": [0, 0.5, 1]}')
    if params is not None:
        raise OptionError("params are given, and the specification's own sweep has all its values")
    return engine.points


def swept(
    engine: "Engine",
    points: Sequence[Point],
    prompts: Any,
    *,
    places: Sequence[str] | None,
    wanted: Collection[tuple[int, int, int]] | None,
    options: Mapping[str, Any],
    occurrences: Sequence[int] | None = None,
) -> Iterator[SweepResult]:
    """The rows of all points of all prompts, each when it ends; see `Engine.sweep`.

    The points of a prompt stand next to each other, so that they are read from one prefill of it, and each is
    drawn with the random numbers which the prompt would have alone. `occurrences` number equal prompts, where
    these are some of more; without it they are counted.
    """
    prompts = as_prompts(prompts)
    places = places or [f"prompt {number}" for number in range(1, len(prompts) + 1)]
    count = len(points)
    results = engine.as_completed(
        [prompt for prompt in prompts for _ in points],
        params=[point.params for _ in prompts for point in points],
        places=[f"{place} ({point})" for place in places for point in points],
        occurrences=[number for number in occurrences or occurrences_of(prompts) for _ in points],
        wanted=None if wanted is None else {(index * count + point, n) for index, point, n in wanted},
        **options,
    )
    for result in results:
        index, number = divmod(result.index, count)
        known = {one.name: getattr(result, one.name) for one in fields(Result)}
        yield SweepResult(**{**known, "index": index}, point=points[number].values, point_index=number)
