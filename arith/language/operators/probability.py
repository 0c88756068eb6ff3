"""The passage between log-weights and probabilities."""

import torch

from arith.language.argument import Domain, Number, Same
from arith.language.registry import operator
from arith.language.values import Dist, Scalar, Type, Vec

FRACTION = Domain("a number from 0 to 1", lambda w: (w >= 0) & (w <= 1))
LARGEST_EXPONENT = 80.0  # exp of it is finite in single precision


@operator("p", example="log(0.7*p(a) + 0.3*p(b))", absorbs_shift=["f"])
def probability(f: Dist) -> Vec:
    """The probability of each token, `softmax(f)`: 0 outside the support."""
    return f.probs()


@operator("log_p", example="base + clamp(log_p(arm), min=-20)", absorbs_shift=["f"])
def log_p(f: Dist) -> Vec:
    """The log-probability of each token, `log_softmax(f)`, as numbers: -inf outside the support.

    Tokens whose probability is too small to be written keep theirs, unlike in `log(p(f))`. Added to a dist it
    takes the tokens outside out; subtracted, or multiplied by a vec that is 0 there, as in `p(f)*log_p(f)`,
    it is undefined, which is an error. `clamp(log_p(f), min=-100)` is finite everywhere.
    """
    return f.log_probs()


@operator(
    "kl_terms",
    example="where(kl_terms(a, b) > 0.1, a, b)",
    absorbs_shift=["a", "b"],
    source="Dekoninck et al. 2024, Controlled Text Generation via Language Model Arithmetic",
)
def kl_terms(a: Dist, b: Dist) -> Vec:
    """What each token adds to `kl(a, b)`: p(a)·(log p(a) − log p(b)), in nats.

    It is 0 where `a` has no probability, and infinite where only `b` has none.
    """
    probs = a.probs()
    inside = probs > 0
    ratio = torch.where(inside, a.log_probs(), 0.0) - torch.where(inside, b.log_probs(), 0.0)
    return torch.where(inside, probs * ratio, probs)


@operator("log", example="log(0.7*p(a) + 0.3*p(b))", returns={Type.SCALAR: Type.SCALAR, Type.VEC: Type.DIST})
def logarithm(x: Number) -> Same:
    """The natural logarithm; of a vec, a dist whose support is the tokens where it is above 0."""
    if x.shape[-1] == 1:
        return torch.log(x)
    support = x > 0
    return Dist(torch.log(torch.where(support, x, 1.0)), support)


@operator(
    "exp",
    example="exp(a - b)",
    returns={Type.SCALAR: Type.SCALAR, Type.VEC: Type.VEC, Type.DIST: Type.VEC},
)
def exponential(x: Same) -> Same:
    """The exponential; of a dist, that of its log-weights as they stand (not normalised), 0 outside the
    support."""
    return torch.exp(x.masked if isinstance(x, Dist) else x)


@operator(
    "mix",
    example="mix(base, arm, 0.7)",
    absorbs_shift=["a", "b"],
    domains={"w": FRACTION},
)
def mix(a: Dist, b: Dist, w: Scalar) -> Dist:
    """The mixture of two distributions, `log(w*p(a) + (1 - w)*p(b))`: a draw from `a` with probability `w`,
    else from `b`.

    A token is outside only where whatever has weight is outside; a weight of exactly 0 leaves its side out,
    support included. It is computed from log-probabilities, so that no token is lost whose probability is too
    small to be written.
    """
    left, right = (
        side.masked_fill((weight == 0) & side.isnan(), -torch.inf)
        for weight, side in ((w, a.log_probs()), (1 - w, b.log_probs()))
    )
    with torch.no_grad():
        scale = torch.maximum(left.masked_fill(w == 0, -torch.inf), right.masked_fill(w == 1, -torch.inf))
        scale = scale.masked_fill(scale.isneginf(), 0.0)
    # Only a side without weight can lie above the scale; its limit keeps 0·∞ away.
    sides = (side - scale for side in (left, right))
    first, second = (torch.exp(side.clamp(max=LARGEST_EXPONENT)) for side in sides)
    total = w * first + (1 - w) * second
    support = total > 0
    return Dist(torch.where(support, scale + torch.log(torch.where(support, total, 1.0)), 0.0), support)
