"""The largest step away from a distribution that stays near it."""

from collections.abc import Callable

import torch
from torch import Tensor

from arith.language.argument import Direction
from arith.language.operators.schedule import POSITIVE
from arith.language.registry import operator
from arith.language.values import Dist, Scalar

MOST_STEPS = 60


@operator(
    "anchor",
    example="base + anchor(base, arm - base, bound=0.1, most=5)*(arm - base)",
    absorbs_shift=["base", "direction"],
    domains={"bound": POSITIVE, "most": POSITIVE},
)
def anchor(base: Dist, direction: Direction, bound: Scalar, most: Scalar) -> Scalar:
    """The largest weight w from 0 to `most` with which `base + w*direction` stays within `bound` nats of
    `base`: KL(softmax(base + w*direction)‖softmax(base)) <= bound.

    The divergence grows with w (its slope is w times the variance of the direction), so that w is found by
    bracketing it, up to rounding. It is 0 where even the smallest weight breaks the bound, because the
    support of the direction is too narrow. Where the bound holds w back the gradient is that of the solution
    of KL = bound; where `most` does, it is 1 for `most` and 0 for the others.
    """
    start = base.log_probs()
    step = direction.masked if isinstance(direction, Dist) else direction
    outside = step.isneginf()
    narrowed, inner = start.masked_fill(outside, -torch.inf), step.masked_fill(outside, 0.0)
    # A constant in the direction changes nothing, and rounding is least without one.
    inner = inner - (start.exp() * inner).sum(-1, keepdim=True).detach()

    def divergence(w: Tensor) -> Tensor:
        moved = narrowed + w * inner
        mean = (moved.softmax(-1) * inner).sum(-1, keepdim=True)
        return w * mean - moved.logsumexp(-1, keepdim=True)

    with torch.no_grad():
        entry = -narrowed.logsumexp(-1, keepdim=True).clamp(max=0.0)  # of the smallest weight above 0
        whole = divergence(most)
        held = (entry <= bound) & (whole > bound)
        w = _crossing(divergence, held, entry, whole, bound, most)
        probs = (narrowed + w * inner).softmax(-1)
        spread = (inner - (probs * inner).sum(-1, keepdim=True)).square()
        slope = torch.where(held, w * (probs * spread).sum(-1, keepdim=True), 1.0)
        slope = slope.clamp(min=torch.finfo(slope.dtype).tiny)
        defined = step.amax(-1, keepdim=True).isfinite()
    left = bound - divergence(w)
    solution = w + (left - left.detach()) / slope
    free = torch.where(entry > bound, 0.0, torch.where(whole <= bound, most, torch.nan))
    return torch.where(defined, torch.where(held, solution, free), torch.nan)


def _crossing(
    divergence: Callable[[Tensor], Tensor],
    held: Tensor,
    entry: Tensor,
    whole: Tensor,
    bound: Tensor,
    most: Tensor,
) -> Tensor:
    """The weight at which the divergence crosses the bound, from below, `[rows, 1]`; 0 in rows that are not
    `held` by it.

    False position with the Illinois rule (Dowell and Jarratt 1971), on the root of the divergence because
    that is nearly linear in the weight: about ten steps where halving takes thirty.
    """
    root = bound.sqrt()
    low = torch.zeros_like(entry)
    high = torch.where(held, most, low)
    at_low, at_high = entry.sqrt() - root, whole.sqrt() - root
    was_below = was_above = torch.zeros_like(held)
    precision = torch.finfo(entry.dtype).eps ** 0.75
    for _ in range(MOST_STEPS):
        if bool((high - low <= precision * high).all()):
            break
        middle = high - torch.where(held, at_high / (at_high - at_low), 0.0) * (high - low)
        gap = divergence(middle).clamp(min=0.0).sqrt() - root
        below, above = gap <= 0, gap >= 0
        halved_low = torch.where(was_above, at_low / 2, at_low)
        halved_high = torch.where(was_below, at_high / 2, at_high)
        at_low, at_high = torch.where(below, gap, halved_low), torch.where(above, gap, halved_high)
        low, high = torch.where(below, middle, low), torch.where(above, middle, high)
        was_below, was_above = below, above
    return low
