"""Operators that restrict a distribution to some of its tokens and leave the log-weights as they are."""

import torch
from torch import Tensor

from arith.language.argument import Domain, Region
from arith.language.operators.reduce import expected
from arith.language.registry import operator
from arith.language.values import Dist, Mask, Scalar

WHOLE = Domain("a whole number of at least 1", lambda k: (k >= 1) & (k % 1 == 0))
SHARE = Domain("a number above 0 and at most 1", lambda p: (p > 0) & (p <= 1))
FIRST_CANDIDATES = (
    1024  # a nucleus is nearly always found in these; sorting a whole vocabulary costs fifty times more
)


def _kth_largest(values: Tensor, k: Tensor) -> Tensor:
    """The k-th largest value of each row, `[rows, 1]`; k is `[rows, 1]` or `[1, 1]` and is cut to the
    vocabulary."""
    k = k.nan_to_num(1.0).clamp(1, values.shape[-1]).long()
    largest = torch.topk(values, int(k.max()), dim=-1).values
    return largest.gather(-1, k.expand(values.shape[0], 1) - 1)


@torch.no_grad()
def _last_score(scores: Tensor, probs: Tensor, p: Tensor) -> Tensor:
    """The score of the token with which the best scored ones together reach the probability `p`,
    `[rows, 1]`."""
    first = scores.topk(min(FIRST_CANDIDATES, scores.shape[-1]), dim=-1)
    last, reached = _within_ranked(*first, probs, p)
    missed = (reached <= p) & (p < 1)  # at 1 every token is kept, whatever its score
    if first.values.shape[-1] < scores.shape[-1] and bool(missed.any()):
        rows = missed.squeeze(-1).nonzero().squeeze(-1)
        ranked, order = scores[rows].sort(dim=-1, descending=True)
        again, _ = _within_ranked(ranked, order, probs[rows], p.expand(len(scores), 1)[rows])
        last = last.index_copy(0, rows, again)
    return last


def _first_ranked(scores: Tensor, probs: Tensor, p: Tensor) -> Tensor:
    """The best scored tokens that together reach the probability `p`, never those with the score -inf."""
    last = _last_score(scores, probs, p)
    return (scores >= torch.where(p < 1, last, -torch.inf) + 0 * p) & ~scores.isneginf()


def _within_ranked(ranked: Tensor, order: Tensor, probs: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """The last score among those ranked, and the probability of all that are ranked."""
    shares = probs.gather(-1, order)
    reached = shares.cumsum(-1)
    place = (reached - shares < p).sum(-1, keepdim=True).clamp(min=1) - 1
    return ranked.gather(-1, place), reached[:, -1:]


@operator(
    "top_k", example="top_k(base, 50)", passes_shift=["f"], domains={"k": WHOLE}, source="Fan et al. 2018"
)
def top_k(f: Dist, k: Scalar) -> Dist:
    """The k most likely tokens of `f`; tokens that tie with the last of them are kept too."""
    scores = f.masked
    return f.restrict(scores >= _kth_largest(scores, k) + 0 * k)


@operator(
    "top_p",
    example="top_p(base, p=0.9)",
    passes_shift=["f"],
    domains={"p": SHARE},
    absorbs_shift=["by"],
    source="Holtzman et al. 2020; with `by`, Krause et al. 2021, GeDi",
)
def top_p(f: Dist, p: Scalar, by: Dist | None = None) -> Dist:
    """The nucleus of `f`: the most likely tokens whose probabilities together reach `p`.

    The token that passes `p` is inside, and so are tokens that tie with it. With `by`, tokens are taken in
    the order of that dist instead, until their probabilities in `f` reach `p`; those outside its support are
    never taken, not even at `p = 1`. The gradient is that of `f`; the order has none.
    """
    probs = f.probs()
    if by is not None:
        return f.restrict(_first_ranked(by.log_probs(), probs, p))
    smallest = _last_score(probs, probs, p)
    return f.restrict(probs >= torch.where(p < 1, smallest, 0.0) + 0 * p)  # rounding would lose some at p = 1


@operator(
    "typical",
    example="typical(base, 0.9)",
    passes_shift=["f"],
    domains={"p": SHARE},
    source="Meister et al. 2023, Locally Typical Sampling",
)
def typical(f: Dist, p: Scalar) -> Dist:
    """The tokens of `f` whose information, -log of the probability, is nearest the entropy, until their
    probabilities together reach `p`.

    The token that passes `p` is inside, and so are tokens that are as far from the entropy.
    """
    with torch.no_grad():
        log_probs = f.log_probs()
        probs = log_probs.exp()
        nearness = -(log_probs - expected(probs, log_probs)).abs()
        last = _last_score(nearness, probs, p)
        return f.restrict(nearness >= torch.where(p < 1, last, -torch.inf) + 0 * p)


@operator(
    "min_p",
    example="min_p(base, 0.05)",
    passes_shift=["f"],
    domains={"p": SHARE},
    source="Nguyen et al. 2024",
)
def min_p(f: Dist, p: Scalar) -> Dist:
    """The tokens at least `p` times as likely as the most likely one."""
    scores = f.masked
    return f.restrict(scores >= scores.amax(-1, keepdim=True) + torch.log(p))


@operator(
    "epsilon",
    example="epsilon(base, 0.0003)",
    passes_shift=["f"],
    domains={"p": SHARE},
    source="Hewitt et al. 2022, Truncation Sampling as Language Model Desmoothing",
)
def epsilon(f: Dist, p: Scalar) -> Dist:
    """The tokens of `f` whose probability is at least `p`, and the most likely one in any case, with those
    that tie with it."""
    probs = f.probs()
    return f.restrict(probs >= torch.minimum(p, probs.amax(-1, keepdim=True)))


@operator(
    "within", example="within(base - amateur, min_p(base, 0.1))", passes_shift=["f"], absorbs_shift=["region"]
)
def within(f: Dist, region: Region) -> Dist:
    """`f` on the tokens of the region alone: those in the support of a dist, or where a mask holds."""
    if not isinstance(region, Dist):
        return f.restrict(region.expand_as(f.logits))
    return f if region.support is None else f.restrict(region.support)


@operator("complement", example="within(base, complement(top_k(amateur, 10)))", absorbs_shift=["region"])
def complement(region: Region) -> Mask:
    """The tokens that are not in the region: outside the support of a dist, or where a mask does not hold.

    A dist whose support is empty, which is a mistake elsewhere, has an empty complement too, so that the
    mistake still shows.
    """
    if not isinstance(region, Dist):
        rest: Tensor = ~region
        return rest
    if region.support is None:
        return torch.zeros_like(region.logits, dtype=torch.bool)
    return ~region.support & region.support.any(-1, keepdim=True)
