"""Scalars that follow another scalar, usually `t`, the number of tokens generated so far."""

import torch

from arith.language.argument import Domain
from arith.language.registry import operator
from arith.language.values import Scalar

POSITIVE = Domain("a number above 0", lambda value: value > 0)


@operator("ramp", example="base + 2*ramp(t, 10, 50)*arm")
def ramp(t: Scalar, a: Scalar, b: Scalar) -> Scalar:
    """0 up to `t = a`, 1 from `t = b` on, and linear between; undefined, which is an error, unless `a < b`.

    `1 - ramp(t, a, b)` goes down. The gradient is 0 on both flat parts.
    """
    width = torch.where(a < b, b - a, torch.nan)
    return ((t - a) / width).clamp(0.0, 1.0)


@operator("decay", example="base + 2*decay(t, half_life=20)*arm", domains={"half_life": POSITIVE})
def decay(t: Scalar, half_life: Scalar) -> Scalar:
    """1 at `t = 0`, and half of it after each `half_life`: `0.5**(t/half_life)`."""
    return torch.exp2(-t / half_life)
