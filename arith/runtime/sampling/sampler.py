"""The choice of a token from its row's scores."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from arith.runtime.backbones.compiled import compiles
from arith.runtime.compiled_function import CompiledFunction
from arith.runtime.options import Compile
from arith.runtime.sampling.noise import BLOCK, noise_in_blocks, noise_of, row_words, token_codes
from arith.runtime.sampling.noise_ahead import NoiseAhead, RowNoise

Race = Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]
"""Scores `[rows, vocab]`, the rows' keys and their steps to a token id for each row, int64 `[rows]`."""

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
    """The tokens that arrive first, with the noise of the tokens' codes and the rows' words (`noise_of`)."""
    return first_arrival(scores, noise_of(codes, words)[:, : scores.shape[-1]])


class PrunedRace:
    """A `Race` for which, where there are many scores, the noise of those blocks alone is made that can
    win."""

    def __init__(self) -> None:
        self._noise = NoiseAhead()

    def __call__(self, scores: Tensor, keys: Sequence[int], steps: Sequence[int]) -> Tensor:
        codes = token_codes(scores.shape[-1], scores.device)
        if codes.shape[-1] // BLOCK <= HEATS or scores.numel() <= FEW:
            return race(scores, codes, row_words(keys, steps, scores.device))
        return _pruned_race(scores, codes, self._noise(codes, keys, steps))


def _pruned_race(scores: Tensor, codes: Tensor, noise: RowNoise) -> Tensor:
    """The same tokens as `race`.

    No token of a block comes before its highest score and its first arrival allow. Where the blocks of which
    most can be hoped don't decide a row, it is raced as a whole.
    """
    count = codes.shape[-1] // BLOCK
    missing = codes.shape[-1] - scores.shape[-1]
    filled = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf) if missing else scores
    blocks = filled.reshape(-1, count, BLOCK)
    hopes, numbers = (blocks.amax(dim=-1) - torch.log(noise.arrivals)).topk(HEATS + 1, dim=-1)
    numbers = numbers[:, :HEATS]
    chosen = [each.gather(-1, numbers) for each in (noise.arrivals, noise.leaders)]
    delays = noise_in_blocks(codes.view(count, BLOCK)[numbers], noise.words, *chosen)
    places = numbers.unsqueeze(-1).expand(-1, -1, BLOCK)
    best, winners = (blocks.gather(1, places) - delays.log_()).flatten(1).max(dim=-1)
    tokens = numbers.gather(-1, (winners // BLOCK).unsqueeze(-1)).squeeze(-1) * BLOCK + winners % BLOCK
    open_rows = (hopes[:, HEATS] >= best).nonzero().squeeze(-1)
    if len(open_rows):
        tokens[open_rows] = race(scores[open_rows], codes, noise.words[:, :, open_rows])
    return tokens


def _race_of_rows(
    run: Callable[[Tensor, Tensor, Tensor], Tensor],
    scores: Tensor,
    keys: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    words = row_words(keys, steps, scores.device)
    return run(scores, token_codes(scores.shape[-1], scores.device), words)


def race_on(device: torch.device, compile: Compile) -> Race:
    """The race, in one kernel that never writes its noise down where things are compiled on this device."""
    if compiles(compile, device):
        return partial(_race_of_rows, CompiledFunction(race, torch.equal, compile, "the choice of tokens"))
    return PrunedRace() if device.type == "cpu" else partial(_race_of_rows, race)
