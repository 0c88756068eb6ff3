"""Supervised fine-tuning."""

from typing import ClassVar, Literal

from torch import Tensor

from trainers.objectives.objective import Objective, Scores


def sft_loss(answer: Tensor, tokens: Tensor) -> Tensor:
    """The loss of each answer, `[rows]`: its negative log-probability (nats, `[rows]`) per token."""
    return -answer / tokens


class Sft(Objective):
    """A model of the (chosen) answers: what a base is made with. The mean is over tokens, as usual."""

    name: Literal["sft"] = "sft"

    pairs: ClassVar[bool] = False

    def losses(self, scores: Scores) -> Tensor:
        return sft_loss(scores.values[:, 0], scores.tokens[:, 0])

    def weights(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0].float()
