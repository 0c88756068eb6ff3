"""Reductions: one number for each row from whole distributions, in nats."""

import math

import torch
from torch import Tensor

from arith.language.registry import operator
from arith.language.values import Dist, Scalar


def _expected(probs: Tensor, values: Tensor) -> Tensor:
    """Σ p·v over the tokens with p > 0, `[rows, 1]`: 0·∞ counts 0."""
    return torch.where(probs > 0, probs * torch.where(probs > 0, values, 0.0), probs).sum(-1, keepdim=True)


@operator("entropy", example="where(entropy(base) > 2, base - amateur, base)", absorbs_shift=["f"])
def entropy(f: Dist) -> Scalar:
    """The entropy of `softmax(f)`, in nats: between 0 and the logarithm of the size of its support."""
    return -_expected(f.probs(), f.log_probs())


@operator("kl", example="kl(arm, base)", absorbs_shift=["a", "b"], source="Kullback and Leibler 1951")
def kl(a: Dist, b: Dist) -> Scalar:
    """The Kullback-Leibler divergence KL(a‖b) of the normalised arguments, in nats.

    It is infinite where `a` gives probability to a token outside the support of `b`.
    """
    probs = a.probs()
    difference = torch.where(probs > 0, a.log_probs(), 0.0) - torch.where(probs > 0, b.log_probs(), 0.0)
    return _expected(probs, difference)


@operator("js", example="base + js(base, arm)*arm", absorbs_shift=["a", "b"], source="Lin 1991")
def js(a: Dist, b: Dist) -> Scalar:
    """The Jensen-Shannon divergence of the normalised arguments, in nats: between 0 and log 2."""
    left, right = a.log_probs(), b.log_probs()
    outside = left.isneginf() & right.isneginf()  # there the gradient of logaddexp would be NaN
    middle = torch.logaddexp(left.masked_fill(outside, 0.0), right.masked_fill(outside, 0.0)) - math.log(2)
    both = _expected(a.probs(), left - middle) + _expected(b.probs(), right - middle)
    return 0.5 * both
