"""The types of the language, and what their values are at run time."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import torch
from torch import Tensor


class Type(Enum):
    """The type of an expression. The last two only stand as arguments of the operators made for them."""

    SCALAR = "scalar"
    DIST = "dist"
    VEC = "vec"
    MASK = "mask"
    CLASSIFIER = "classifier"
    TEXT = "text"

    def __str__(self) -> str:
        return self.value


Scalar = Annotated[Tensor, Type.SCALAR]
"""`[rows, 1]` floats: one number for each row."""
Vec = Annotated[Tensor, Type.VEC]
"""`[rows, vocab]` floats: one number for each token."""
Mask = Annotated[Tensor, Type.MASK]
"""`[rows, vocab]` booleans; `[rows, 1]` where it holds for a whole row, `[1, vocab]` where for all rows."""


@dataclass(frozen=True, eq=False, slots=True)
class Dist:
    """A distribution over the vocabulary, up to a constant for each row.

    `logits` are log-weights `[rows, vocab]`; `support` is a mask `[rows, vocab]` of the tokens that can
    occur, or None where all can. Log-weights outside the support mean nothing, but are never NaN because of
    being outside.
    """

    logits: Tensor
    support: Tensor | None = None

    @property
    def masked(self) -> Tensor:
        """The log-weights with -inf outside the support, `[rows, vocab]`."""
        return self.logits if self.support is None else self.logits.masked_fill(~self.support, -torch.inf)

    def log_probs(self) -> Tensor:
        """Normalised log-probabilities `[rows, vocab]`, -inf outside; NaN in a row whose support is empty."""
        return self.masked.log_softmax(-1)

    def probs(self) -> Tensor:
        """Probabilities `[rows, vocab]`, 0 outside; NaN in a row whose support is empty."""
        return self.masked.softmax(-1)

    def restrict(self, mask: Tensor) -> "Dist":
        """The same log-weights on the tokens where `mask` holds as well."""
        return Dist(self.logits, mask if self.support is None else self.support & mask)
