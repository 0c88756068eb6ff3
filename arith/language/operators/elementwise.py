"""Functions of one number, applied token by token."""

from collections.abc import Callable

import torch
from torch import Tensor

from arith.language.operators.combine import KEEP_TYPE
from arith.language.registry import Same, operator
from arith.language.values import Dist, Scalar


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
