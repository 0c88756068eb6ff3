"""The objective of autoregressive reward models (ARMs)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from trainers.objectives.objective import Objective, Scores, per_token, refuse_smoothing


def arm_loss(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float,
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    loss: str = "sigmoid",
) -> Tensor:
    """The loss of each pair, `[pairs]`, from the log-probabilities `[pairs]` of its two answers, in nats.

    With z = β(log π(y_w|x) − log π(y_l|x)) − γ: sigmoid, −(1−ε) log σ(z) − ε log σ(−z), or hinge,
    max(0, 1 − z), where ε is `label_smoothing` and γ `margin`. There is no reference model. Xu et al.,
    GenARM: Reward Guided Generation with Autoregressive Reward Model, ICLR 2025 (arXiv 2410.08193),
    equation 8; with γ and answers per token it is SimPO, Meng et al. 2024 (arXiv 2405.14734).
    """
    z = beta * (chosen - rejected) - margin
    if loss == "hinge":
        return relu(1 - z)
    return -(1 - label_smoothing) * logsigmoid(z) - label_smoothing * logsigmoid(-z)


class Arm(Objective):
    """An autoregressive reward model: `base + alpha*arm` decodes with it, α = 1/β being the paper's own."""

    name: Literal["arm"] = "arm"
    beta: Annotated[float, Field(gt=0, description="what a difference of log-probabilities counts")] = 0.05
    margin: Annotated[float, Field(ge=0, description="γ: the difference that is asked for")] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5, description="how many labels are wrong")] = 0.0
    loss: Annotated[Literal["sigmoid", "hinge"], Field(description="of a pair")] = "sigmoid"
    length_normalization: Annotated[bool, Field(description="log-probabilities per token")] = False

    @model_validator(mode="after")
    def _smoothed_sigmoid(self) -> Self:
        refuse_smoothing(self.loss, self.label_smoothing)
        return self

    def losses(self, scores: Scores) -> Tensor:
        values = per_token(scores, self.length_normalization).values
        return arm_loss(
            values[:, 0],
            values[:, 1],
            beta=self.beta,
            margin=self.margin,
            label_smoothing=self.label_smoothing,
            loss=self.loss,
        )

    def rewards(self, scores: Scores) -> Tensor:
        return self.beta * per_token(scores, self.length_normalization).values
