"""The search for the values at which a function of few numbers is least."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.errors import EvaluationError

Function = Callable[[Tensor], tuple[float, Tensor]]
"""Values `[n]` to the function there and its gradient `[n]`, all float64."""

ITERATIONS = 100
LINE_STEPS = 25  # of the line search in one iteration, at most
FLAT = 1e-6  # of every part of the gradient: the search ends
STILL = 1e-9  # change of the function, or of every value, in one iteration: the search ends
NOISE = 1e-6  # of the function's values, next to 1 or to themselves: float32 is behind them


@dataclass(frozen=True)
class Minimum:
    """The least value that was met, and where; `settled` says whether the search ended there by itself."""

    values: Tensor
    value: float
    settled: bool


def minimise(function: Function, start: Tensor) -> Minimum:
    """The minimum that limited-memory BFGS with a strong Wolfe line search (Nocedal and Wright 2006, chapters
    3 and 7) reaches from `start`.

    A place where the function has no value (it raises `EvaluationError`) is worse than all others, and an
    error at the start.
    """
    values = start.clone()
    met: list[tuple[float, Tensor]] = []
    optimizer = torch.optim.LBFGS(
        [values],
        max_iter=ITERATIONS,
        max_eval=LINE_STEPS * ITERATIONS,
        tolerance_grad=FLAT,
        tolerance_change=STILL,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        at = values.detach().clone()
        try:
            value, values.grad = function(at)
        except EvaluationError:
            if not met:
                raise
            worst, _ = max(met, key=_value)
            values.grad = torch.zeros_like(at)
            return 1 + worst + abs(worst)
        met.append((value, at))
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    value, best = min(met, key=_value)
    return Minimum(best, value, settled=optimizer.state[values]["n_iter"] < ITERATIONS)


def _value(one: tuple[float, Tensor]) -> float:
    return one[0]


def unbounded(function: Function, start: Tensor, found: Minimum) -> list[int]:
    """The numbers of the values that have no finite best: twice as far from the start (1 further, if that is
    more; on either side, if it is the start) the function is no higher. Where it has no value it is
    bounded."""
    limit = found.value + NOISE * max(1.0, abs(found.value))
    numbers = []
    for number, moved in enumerate((found.values - start).tolist()):
        steps = (math.copysign(max(1.0, abs(moved)), moved),) if moved else (1.0, -1.0)
        if any(_value_beyond(function, found.values, number, step) <= limit for step in steps):
            numbers.append(number)
    return numbers


def _value_beyond(function: Function, values: Tensor, number: int, step: float) -> float:
    further = values.clone()
    further[number] += step
    try:
        return function(further)[0]
    except EvaluationError:
        return math.inf
