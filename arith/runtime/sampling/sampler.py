"""The choice of a token from its row's scores."""

from collections.abc import Callable

import torch
from torch import Tensor

from arith.runtime.backbones.compiled import compiles
from arith.runtime.compiled_function import CompiledFunction
from arith.runtime.options import Compile
from arith.runtime.sampling.noise import BLOCK, block_noise, noise_in_blocks, noise_of

Race = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Scores `[rows, vocab]`, the tokens' codes and the rows' words (see `noise_of`) to a token id for each row,
int64 `[rows]`."""

HEATS = 48  # blocks of tokens that are run for a row: at temperature 1 more can hardly win
FEW = 2**15  # scores, up to which it is quicker to race them all


def first_arrival(scores: Tensor, noise: Tensor) -> Tensor:
    """A token id for each row, int64 `[rows]`, from scores (log-weights) and Exp(1) noise `[rows, vocab]`.

    It is an exact draw from softmax(scores): the first arrival in a race in which token i comes at E_i / p_i.
    Every row needs a finite score.
    """
    # In logarithms, so that the low scores of a low temperature don't underflow.
    arrivals = torch.log(noise)
    return torch.sub(scores, arrivals, out=arrivals).argmax(dim=-1)


def race(scores: Tensor, codes: Tensor, words: Tensor) -> Tensor:
    """The tokens that arrive first, with the noise of these rows at their steps."""
    return first_arrival(scores, noise_of(codes, words)[:, : scores.shape[-1]])


def pruned_race(scores: Tensor, codes: Tensor, words: Tensor) -> Tensor:
    """The same tokens as `race`, from the noise of those blocks alone that can win.

    No token of a block comes before its highest score and its first arrival allow. Where the blocks of which
    most can be hoped don't decide a row, it is raced as a whole.
    """
    count = codes.shape[-1] // BLOCK
    if count <= HEATS or scores.numel() <= FEW:
        return race(scores, codes, words)
    missing = codes.shape[-1] - scores.shape[-1]
    filled = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf) if missing else scores
    blocks = filled.reshape(-1, count, BLOCK)
    arrivals, leaders = block_noise(codes, words)
    hopes, numbers = (blocks.amax(dim=-1) - torch.log(arrivals)).topk(HEATS + 1, dim=-1)
    numbers = numbers[:, :HEATS]
    chosen = [each.gather(-1, numbers) for each in (arrivals, leaders)]
    noise = noise_in_blocks(codes.view(count, BLOCK)[numbers], words, *chosen)
    places = numbers.unsqueeze(-1).expand(-1, -1, BLOCK)
    best, winners = (blocks.gather(1, places) - noise.log_()).flatten(1).max(dim=-1)
    tokens = numbers.gather(-1, (winners // BLOCK).unsqueeze(-1)).squeeze(-1) * BLOCK + winners % BLOCK
    open_rows = (hopes[:, HEATS] >= best).nonzero().squeeze(-1)
    if len(open_rows):
        tokens[open_rows] = race(scores[open_rows], codes, words[:, :, open_rows])
    return tokens


def race_on(device: torch.device, compile: Compile) -> Race:
    """The race, in one kernel that never writes its noise down where things are compiled on this device."""
    if compiles(compile, device):
        return CompiledFunction(race, torch.equal, compile, "the choice of tokens")
    return pruned_race if device.type == "cpu" else race
