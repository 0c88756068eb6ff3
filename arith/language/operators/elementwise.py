"""Functions of one number, applied token by token."""

from collections.abc import Callable

import torch
from torch import Tensor

from arith.language.argument import Number, Same
from arith.language.operators.combine import KEEP_TYPE
from arith.language.registry import operator
from arith.language.values import Dist, Scalar, Type


def _on_values(function: Callable[[Tensor], Tensor], x: Same) -> Same:
    return Dist(function(x.logits), x.support) if isinstance(x, Dist) else function(x)


@operator("abs", example="abs(p(a) - p(b))", returns=KEEP_TYPE)
def absolute(x: Same) -> Same:
    """The absolute value; of a dist, that of its log-weights as they stand, on the same support."""
    return _on_values(torch.abs, x)


@operator("clamp", example="base + clamp(arm - base, min=-2, max=2)", returns=KEEP_TYPE)
def clamp(x: Same, min: Scalar | None = None, max: Scalar | None = None) -> Same:
    """The value, but not below `min` and not above `max`; of a dist, its log-weights, on the same support.

    Either bound may be left out. The gradient is 0 where a bound holds.
    """

    def limited(values: Tensor) -> Tensor:
        if min is not None:
            values = torch.maximum(values, min)
        return values if max is None else torch.minimum(values, max)

    return _on_values(limited, x)


@operator("relu", example="base + relu(arm - base)", returns=KEEP_TYPE)
def relu(x: Same) -> Same:
    """The value where it is above 0, else 0; of a dist, that of its log-weights as they stand, on the same
    support.

    The gradient is 1 above 0 and 0 elsewhere.
    """
    return _on_values(torch.relu, x)


@operator("tanh", example="base + 2*tanh(arm - base)", returns=KEEP_TYPE)
def tanh(x: Same) -> Same:
    """The hyperbolic tangent, between -1 and 1; of a dist, that of its log-weights as they stand, on the same
    support."""
    return _on_values(torch.tanh, x)


@operator("sign", example="base + 0.5*sign(arm - base)", returns=KEEP_TYPE)
def sign(x: Same) -> Same:
    """-1, 0 or 1 as the value is below, at or above 0; of a dist, that of its log-weights as they stand, on
    the same support.

    The gradient is 0.
    """
    return _on_values(lambda values: torch.where(values.isnan(), values, torch.sign(values)), x)


@operator(
    "sigmoid",
    example="base + 2*sigmoid(arm - base)",
    returns={Type.SCALAR: Type.SCALAR, Type.VEC: Type.VEC, Type.DIST: Type.VEC},
)
def sigmoid(x: Same) -> Same:
    """The logistic function 1/(1 + exp(-x)), between 0 and 1; of a dist, that of its log-weights as they
    stand (not normalised), 0 outside the support."""
    return torch.sigmoid(x.masked if isinstance(x, Dist) else x)


@operator("sqrt", example="log(sqrt(p(a)*p(b)))", returns={Type.SCALAR: Type.SCALAR, Type.VEC: Type.VEC})
def square_root(x: Number) -> Number:
    """The square root; of a negative number it is undefined, which is an error where it is used.

    The gradient at 0, infinite in truth, counts 0, so that tokens without probability don't spoil that of the
    others.
    """
    zero = x == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, x)))
