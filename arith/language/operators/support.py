"""Operators that restrict a distribution to some of its tokens and leave the log-weights as they are."""

import torch
from torch import Tensor

from arith.language.registry import Domain, Region, operator
from arith.language.values import Dist, Scalar

WHOLE = Domain("a whole number of at least 1", lambda k: (k >= 1) & (k % 1 == 0))
SHARE = Domain("a number above 0 and at most 1", lambda p: (p > 0) & (p <= 1))
FIRST_CANDIDATES = (
    1024  # a nucleus is nearly always found in these; sorting a whole vocabulary costs fifty times more
)


def _kth_largest(values: Tensor, k: Tensor) -> Tensor:
    """The k-th largest value of each row, `[rows, 1]`; k is `[rows, 1]` or `[1, 1]` and is cut to the
    vocabulary."""
    k = k.nan_to_num(1.0).clamp(1, values.shape[-1]).long()
    largest = values.topk(int(k.max()), dim=-1).values
    return largest.gather(-1, k.expand(values.shape[0], 1) - 1)


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
    source="Holtzman et al. 2020",
)
def top_p(f: Dist, p: Scalar) -> Dist:
    """The nucleus of `f`: the most likely tokens whose probabilities together reach `p`.

    The token that passes `p` is inside, and so are tokens that tie with it.
    """
    probs = f.probs()
    with torch.no_grad():
        count = min(FIRST_CANDIDATES, probs.shape[-1])
        ranked = probs.topk(count, dim=-1).values
        if count < probs.shape[-1] and not bool((ranked.sum(-1, keepdim=True) > p).all()):
            ranked = probs.sort(dim=-1, descending=True).values
        before = ranked.cumsum(-1) - ranked
        last = (before < p).sum(-1, keepdim=True).clamp(min=1) - 1
        smallest = torch.where(p < 1, ranked.gather(-1, last), 0.0)  # rounding would lose tokens at p = 1
    return f.restrict(probs >= smallest + 0 * p)


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
    "within", example="within(base - amateur, min_p(base, 0.1))", passes_shift=["f"], absorbs_shift=["region"]
)
def within(f: Dist, region: Region) -> Dist:
    """`f` on the tokens of the region alone: those in the support of a dist, or where a mask holds."""
    if not isinstance(region, Dist):
        return f.restrict(region.expand_as(f.logits))
    return f if region.support is None else f.restrict(region.support)
