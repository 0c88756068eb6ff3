"""The choice of a token from its row's scores."""

import torch
from torch import Tensor


def choose(scores: Tensor, noise: Tensor | None) -> Tensor:
    """A token id for each row, int64 `[rows]`, from scores (log-weights) `[rows, vocab]`.

    With Exp(1) noise `[rows, vocab]` the token is an exact draw from softmax(scores): token i is the first
    arrival in a race in which it comes at E_i / p_i. Without noise it is the most likely one, the first of
    several. Every row needs a finite score.
    """
    if noise is None:
        return scores.argmax(dim=-1)
    # In logarithms, so that the low scores of a low temperature don't underflow.
    arrivals = torch.log(noise)
    return torch.sub(scores, arrivals, out=arrivals).argmax(dim=-1)
