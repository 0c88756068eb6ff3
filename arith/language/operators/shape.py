"""Operators on a distribution as a whole."""

import torch

from arith.language.argument import Domain, Number
from arith.language.registry import operator
from arith.language.values import Dist, Scalar

NOT_ZERO = Domain("a number other than 0", lambda value: value != 0)


@operator("normalize", example="max(normalize(a + b), c)", absorbs_shift=["f"])
def normalize(f: Dist) -> Dist:
    """The same distribution with log-weights that are log-probabilities, `log_softmax(f)`."""
    support = f.support
    log_probs = f.log_probs()
    return (
        Dist(log_probs) if support is None else Dist(torch.where(support, log_probs, f.logits * 0), support)
    )


@operator("temper", example="temper(base, 0.7)", passes_shift=["f"], domains={"T": NOT_ZERO})
def temper(f: Dist, T: Scalar) -> Dist:
    """The distribution at temperature `T`: `f/T`. Its support stays."""
    return Dist(f.logits / T, f.support)


@operator("center", example="base + clamp(center(arm), min=-2, max=2)", absorbs_shift=["f"])
def center(f: Dist) -> Dist:
    """The same distribution with log-weights whose mean over the support is 0."""
    if f.support is None:
        return Dist(f.logits - f.logits.mean(-1, keepdim=True))
    inside = f.support.sum(-1, keepdim=True)
    mean = torch.where(f.support, f.logits, 0.0).sum(-1, keepdim=True) / inside
    return Dist(f.logits - mean, f.support)


@operator(
    "average",
    example="average(child - 0.6*adult)",
    absorbs_shift=["f"],
    source="Dekoninck et al. 2024, Controlled Text Generation via Language Model Arithmetic",
)
def average(f: Dist) -> Dist:
    """The sum divided by the sum W of its coefficients, then normalised: `log_softmax(F/W)`.

    W adds up the coefficients of the dist terms; vec, mask and scalar terms count 0, any call counts 1, and
    `max` and `min` carry, token by token, the W of the side that wins. W = 0 is an error; a negative W
    divides as written.
    """
    return normalize(f)  # the compiler writes the division by W in front: see arith.language.weight


def divide(f: Dist, weight: Number) -> Dist:
    """F/W for `average`, with `weight` `[rows, 1]` or `[rows, vocab]`."""
    return Dist(f.logits / weight, f.support)
