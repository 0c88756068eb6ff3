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
STEP_LENGTHS = (1.0, 0.1, 0.01)  # of the steps that line searches begin with
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

    Where a step leads to a place at which the function has no value (it raises `EvaluationError`), the search
    goes on from the best place with shorter steps, and lets the error pass if it happens with these too.
    """
    met: list[tuple[float, Tensor]] = []

    def recorded(at: Tensor) -> tuple[float, Tensor]:
        value, gradient = function(at)
        met.append((value, at))
        return value, gradient

    for length in STEP_LENGTHS:
        try:
            settled = _descend(recorded, min(met, key=_value)[1] if met else start, length)
        except EvaluationError:
            if not met or length == STEP_LENGTHS[-1]:
                raise
        else:
            break
    value, best = min(met, key=_value)
    return Minimum(best, value, settled)


def _value(one: tuple[float, Tensor]) -> float:
    return one[0]


def _descend(function: Function, start: Tensor, length: float) -> bool:
    """One search; whether it ended by itself."""
    values = start.clone()
    optimizer = torch.optim.LBFGS(
        [values],
        lr=length,
        max_iter=ITERATIONS,
        max_eval=LINE_STEPS * ITERATIONS,
        tolerance_grad=FLAT,
        tolerance_change=STILL,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, values.grad = function(values.detach().clone())
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return bool(optimizer.state[values]["n_iter"] < ITERATIONS)


def unbounded(function: Function, start: Tensor, found: Minimum) -> list[int]:
    """The numbers of the values that have no finite best: twice as far from the start (1 further, if that is
    more; on both sides, if it is the start) the function is no higher. Where it has no value it is
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
