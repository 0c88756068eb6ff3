"""Reward models for whole texts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainers.objectives.objective import Objective, Scores


def reward_loss(chosen: Tensor, rejected: Tensor, *, margin: float = 0.0) -> Tensor:
    """The loss of each pair, `[pairs]`, from the rewards `[pairs]` of its two answers: −log σ(r_w − r_l − m).

    The model of Bradley and Terry (1952), as trained by Ouyang et al. 2022 (arXiv 2203.02155, equation 1);
    the margin m is that of Llama 2, Touvron et al. 2023 (arXiv 2307.09288, equation 2).
    """
    return -logsigmoid(chosen - rejected - margin)


class Reward(Objective):
    """A model with one output for a prompt and its answer: what `guide` asks, and what judges experiments."""

    name: Literal["reward"] = "reward"
    margin: Annotated[float, Field(ge=0, description="the difference that is asked for")] = 0.0

    rewards_texts: ClassVar[bool] = True

    def losses(self, scores: Scores) -> Tensor:
        return reward_loss(scores.values[:, 0], scores.values[:, 1], margin=self.margin)
