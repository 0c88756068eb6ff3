"""What objectives have in common: they see the scores of a batch's answers, and nothing of models or data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """The scores of a batch: column 0 is the chosen answer (or the only one), column 1 the rejected one.

    values: `[rows, sides]` float32: the summed log-probability of each answer in nats, or its reward.
    tokens: `[rows, sides]`: how many tokens each answer has.
    reference: `[rows, sides]` float32: the log-probabilities under the reference model, where one is used.
    """

    values: Tensor
    tokens: Tensor
    reference: Tensor | None = None


class Objective(BaseModel, ABC):
    """Settings of an objective, under `objective:` in a recipe, and what it makes of scores."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    name: str

    pairs: ClassVar[bool] = True  # whether it compares two answers
    reference: ClassVar[bool] = False  # whether it needs the log-probabilities of a reference model
    rewards_texts: ClassVar[bool] = False  # whether it trains a reward for texts, and no language model

    @abstractmethod
    def losses(self, scores: Scores) -> Tensor:
        """The loss of each row, `[rows]`."""

    def rewards(self, scores: Scores) -> Tensor:
        """The reward that training gives each answer, `[rows, sides]`: accuracy and margin compare these."""
        return scores.values

    def weights(self, tokens: Tensor) -> Tensor:
        """What each row's loss counts in the mean, `[rows]`, from the numbers of tokens `[rows, sides]`."""
        return torch.ones_like(tokens[:, 0], dtype=torch.float32)


def refuse_smoothing(loss: str, label_smoothing: float) -> None:
    """Raises what pydantic reports for smoothed labels under a loss that is defined without them."""
    if label_smoothing and loss != "sigmoid":
        raise PydanticCustomError(
            "smoothing", "has a `label_smoothing`, which the loss {loss} doesn't take", {"loss": loss}
        )


def per_token(scores: Scores, normalize: bool) -> Scores:
    """The scores divided by the numbers of their tokens, where `normalize` asks for it."""
    if not normalize:
        return scores
    reference = None if scores.reference is None else scores.reference / scores.tokens
    return Scores(scores.values / scores.tokens, scores.tokens, reference)
