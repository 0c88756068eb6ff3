"""Operators that choose between values token by token."""

from functools import reduce
from typing import Any

import torch

from arith.language.argument import ANY, Same
from arith.language.operators.reduce import jensen_shannon
from arith.language.operators.shape import normalize
from arith.language.registry import operator
from arith.language.values import Dist, Mask

KEEP_TYPE = {kind: kind for kind in ANY}
UNION = "Dekoninck et al. 2024, Controlled Text Generation via Language Model Arithmetic"


@operator("max", aliases=["union"], example="max(a, b)", returns=KEEP_TYPE, source=UNION)
def maximum(*values: Same) -> Same:
    """The largest of the values, token by token; a union of supports.

    Dists are compared by their log-weights as they stand, so that operands compete with their
    log-probabilities. A token outside one support takes the other's value; a token outside all supports is
    outside.
    """
    if not isinstance(values[0], Dist):
        return reduce(torch.maximum, values)
    logits = reduce(torch.maximum, (value.masked for value in values))
    supports = [value.support for value in values]
    if any(support is None for support in supports):
        return Dist(logits)
    inside = reduce(torch.logical_or, supports)
    return Dist(torch.where(inside, logits, 0.0), inside)


@operator("min", aliases=["intersection"], example="min(a, b)", returns=KEEP_TYPE, source=UNION)
def minimum(*values: Same) -> Same:
    """The smallest of the values, token by token; an intersection of supports.

    Dists are compared by their log-weights as they stand. A token outside any support is outside.
    """
    if not isinstance(values[0], Dist):
        return reduce(torch.minimum, values)
    logits = reduce(torch.minimum, (value.logits for value in values))
    supports = [value.support for value in values if value.support is not None]
    return Dist(logits, reduce(torch.logical_and, supports) if supports else None)


@operator("where", example="where(entropy(base) > 2, base - amateur, base)", returns=KEEP_TYPE)
def where(condition: Mask, a: Same, b: Same) -> Same:
    """`a` where the condition holds and `b` elsewhere, token by token (or for the whole row, if it compares
    scalars).

    Dists take part with their log-weights as they stand, and each token's support is that of the side it came
    from.
    """
    if not isinstance(a, Dist):
        return torch.where(condition, a, b)
    return Dist(torch.where(condition, a.logits, b.logits), _chosen_support(condition, a, b))


def _chosen_support(condition: Any, a: Dist, b: Dist) -> Any:
    if a.support is None and b.support is None:
        return None
    everything = torch.ones_like(a.logits, dtype=torch.bool)
    left, right = (everything if d.support is None else d.support for d in (a, b))
    return torch.where(condition, left, right)


@operator(
    "farthest",
    example="base - 0.5*farthest(base, a, b)",
    absorbs_shift=["f", "candidates"],
    source="Chuang et al. 2024, DoLa: Decoding by Contrasting Layers Improves Factuality",
)
def farthest(f: Dist, *candidates: Dist) -> Dist:
    """Of the candidates the one whose Jensen-Shannon divergence from `f` is largest, chosen for each row; the
    first of those that tie.

    It comes with its log-probabilities and its own support. The gradient is that of the chosen candidate; the
    choice has none.
    """
    with torch.no_grad():
        log_probs = f.log_probs()
        divergences = [jensen_shannon(log_probs, candidate.log_probs()) for candidate in candidates]
        largest, choice = torch.stack(divergences).max(0)
    chosen = candidates[0]
    for number, candidate in enumerate(candidates[1:], 1):
        chosen = where(choice == number, candidate, chosen)
    chosen = normalize(chosen)
    return Dist(chosen.logits + 0 * largest, chosen.support)  # so that what is undefined shows
