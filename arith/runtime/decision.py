"""The next tokens of rows: decided on the device, and told to the host all at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.runtime.answers import Leaf, Moment
from arith.runtime.fusion import Fused, Fusion
from arith.runtime.sampling.choice import TokenChoice


@dataclass(frozen=True, eq=False)
class Decision:
    """A token for each moment, `figures` of it by their names, and the `scores` `[moments, vocab]` from which
    it was chosen. The tokens of moments that are `lost`, to which bans left none, mean nothing."""

    tokens: list[int]
    figures: Mapping[str, list[float]]
    scores: Tensor
    lost: frozenset[int]


def decide(
    fusion: Fusion,
    choice: TokenChoice,
    moments: Sequence[Moment],
    logits: Mapping[Leaf, Tensor],
    told: Callable[[Fused, Tensor], Mapping[str, Tensor]],
) -> Decision:
    """What the formula chooses at each moment, with the figures `[moments]` that `told` has to tell of it.

    One transfer to the host tells them, and in which rows the formula has to be computed more exactly; only
    then there is another. Processors of a caller's own are shown no row that is in doubt. Raises
    `EvaluationError` where the formula has no value.
    """
    fused = (fusion.evaluate if choice.asks_the_caller else fusion.attempt)(moments, logits)
    while True:
        chosen = choice(moments, fused.log_probs)
        figures = told(fused, chosen.tokens)
        columns = (chosen.tokens, chosen.lost, fused.doubtful, *figures.values())
        table = torch.stack([column.float() for column in columns]).tolist()  # ids below 2^24 are exact
        tokens, lost, doubtful, *values = table
        if not any(doubtful):
            break
        fused = fusion.settled(fused, _numbers(doubtful), moments, logits)
    return Decision(
        [int(token) for token in tokens],
        dict(zip(figures, values, strict=True)),
        chosen.scores,
        frozenset(_numbers(lost)),
    )


def _numbers(flags: Sequence[float]) -> list[int]:
    return [number for number, flag in enumerate(flags) if flag]
