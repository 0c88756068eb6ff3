"""Reductions: one number for each row from whole distributions, in nats, and from values of all tokens.

What has a range is cut to it: rounding would leave it by a little, and then a weight for `mix` or an argument
of `sqrt` would be an error.
"""

import math

import torch
from torch import Tensor

from arith.language.registry import operator
from arith.language.values import Dist, Scalar, Vec


def expected(probs: Tensor, values: Tensor) -> Tensor:
    """Σ p·v over the tokens with p > 0, `[rows, 1]`: 0·∞ counts 0."""
    return torch.where(probs > 0, probs * torch.where(probs > 0, values, 0.0), probs).sum(-1, keepdim=True)


@operator("entropy", example="where(entropy(base) > 2, base - amateur, base)", absorbs_shift=["f"])
def entropy(f: Dist) -> Scalar:
    """The entropy of `softmax(f)`, in nats: between 0 and the logarithm of the size of its support."""
    return (-expected(f.probs(), f.log_probs())).clamp(min=0.0)


@operator("kl", example="kl(arm, base)", absorbs_shift=["a", "b"], source="Kullback and Leibler 1951")
def kl(a: Dist, b: Dist) -> Scalar:
    """The Kullback-Leibler divergence KL(a‖b) of the normalised arguments, in nats: at least 0.

    It is infinite where `a` gives probability to a token outside the support of `b`.
    """
    probs = a.probs()
    difference = torch.where(probs > 0, a.log_probs(), 0.0) - torch.where(probs > 0, b.log_probs(), 0.0)
    return expected(probs, difference).clamp(min=0.0)


@operator("js", example="base + js(base, arm)*arm", absorbs_shift=["a", "b"], source="Lin 1991")
def js(a: Dist, b: Dist) -> Scalar:
    """The Jensen-Shannon divergence of the normalised arguments, in nats: between 0 and log 2."""
    return jensen_shannon(a.log_probs(), b.log_probs())


def jensen_shannon(left: Tensor, right: Tensor) -> Tensor:
    """The divergence `[rows, 1]` of two distributions given by their log-probabilities `[rows, vocab]`."""
    outside = left.isneginf() & right.isneginf()  # there the gradient of logaddexp would be NaN
    middle = torch.logaddexp(left.masked_fill(outside, 0.0), right.masked_fill(outside, 0.0)) - math.log(2)
    divergence = 0.5 * (expected(left.exp(), left - middle) + expected(right.exp(), right - middle))
    return divergence.clamp(0.0, math.log(2))


@operator("tv", example="base + tv(base, arm)*arm", absorbs_shift=["a", "b"])
def tv(a: Dist, b: Dist) -> Scalar:
    """The total variation distance of the normalised arguments, half the sum of |p(a) - p(b)|: between 0 and
    1.

    It is the probability that two tokens drawn in the best way together differ. The gradient of tokens with
    equal probabilities counts 0.
    """
    return _share(0.5 * (a.probs() - b.probs()).abs().sum(-1, keepdim=True))


@operator("max_p", example="where(max_p(base) < 0.5, base + arm, base)", absorbs_shift=["f"])
def max_p(f: Dist) -> Scalar:
    """The probability of the most likely token: between 1/vocabulary and 1.

    The gradient is shared equally by the tokens that tie for it.
    """
    return _share(f.probs().amax(-1, keepdim=True))


@operator("margin", example="where(margin(base) < 0.1, base + arm, base)", absorbs_shift=["f"])
def margin(f: Dist) -> Scalar:
    """The probability of the most likely token less that of the second: between 0 and 1.

    It is 0 where two tokens tie, and 1 where the support is one token.
    """
    most = f.probs().topk(2, dim=-1).values
    return _share(most[:, :1] - most[:, 1:])


@operator("confidence", example="base + confidence(arm)*arm", absorbs_shift=["f"])
def confidence(f: Dist) -> Scalar:
    """How far a distribution is from uniform, 1 - entropy/log(vocabulary size): 0 where it is uniform over
    the whole vocabulary, 1 where it is a single token."""
    return _share(1 - entropy(f) / math.log(f.logits.shape[-1]))


@operator("cosine", example="base + (1 - cosine(base, arm))*arm", absorbs_shift=["a", "b"])
def cosine(a: Dist, b: Dist) -> Scalar:
    """The cosine of the angle between the two vectors of probabilities: between 0, for disjoint supports,
    and 1."""
    return _share(torch.nn.functional.cosine_similarity(a.probs(), b.probs(), dim=-1).unsqueeze(-1))


@operator("total", example="base + total(p(base)*(arm > base))*arm")
def total(v: Vec) -> Scalar:
    """The sum of the values of all tokens.

    `total(p(a)*x)` is the expectation of x, and the total of a mask the number of its tokens.
    """
    return v.sum(-1, keepdim=True)


@operator("largest", example="where(largest(p(arm) - p(base)) > 0.2, base + arm, base)")
def largest(v: Vec) -> Scalar:
    """The largest of the values of all tokens.

    The gradient is shared equally by the tokens that tie for it.
    """
    return v.amax(-1, keepdim=True)


@operator("smallest", example="where(smallest(p(arm) - p(base)) < -0.2, base, base + arm)")
def smallest(v: Vec) -> Scalar:
    """The smallest of the values of all tokens; of probabilities 0, where a token is outside the support.

    The gradient is shared equally by the tokens that tie for it.
    """
    return v.amin(-1, keepdim=True)


def _share(values: Tensor) -> Tensor:
    return values.clamp(0.0, 1.0)
