"""The choice of a token from its row's scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from arith.runtime.backbones.compiled import compiles
from arith.runtime.compiled_function import CompiledFunction
from arith.runtime.options import Compile
from arith.runtime.sampling.noise import noise_of

Race = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Scores `[rows, vocab]`, the tokens' codes and the halves of the rows' words (see `noise_of`) to a token id
for each row, int64 `[rows]`."""


def first_arrival(scores: Tensor, noise: Tensor) -> Tensor:
    """A token id for each row, int64 `[rows]`, from scores (log-weights) and Exp(1) noise `[rows, vocab]`.

    It is an exact draw from softmax(scores): the first arrival in a race in which token i comes at E_i / p_i.
    Every row needs a finite score.
    """
    # In logarithms, so that the low scores of a low temperature don't underflow.
    arrivals = torch.log(noise)
    return torch.sub(scores, arrivals, out=arrivals).argmax(dim=-1)


def race(scores: Tensor, codes: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The tokens that arrive first, with the noise of these rows at their steps."""
    return first_arrival(scores, noise_of(codes, first, second))


def race_on(device: torch.device, compile: Compile) -> Race:
    """The race, in one kernel that never writes its noise down where things are compiled on this device."""
    if not compiles(compile, device):
        return race
    return CompiledFunction(race, torch.equal, compile, "the choice of tokens")
