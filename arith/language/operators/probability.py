"""The passage between log-weights and probabilities."""

import torch

from arith.language.registry import Number, Same, operator
from arith.language.values import Dist, Type, Vec


@operator("p", example="log(0.7*p(a) + 0.3*p(b))", absorbs_shift=["f"])
def probability(f: Dist) -> Vec:
    """The probability of each token, `softmax(f)`: 0 outside the support."""
    return f.probs()


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
