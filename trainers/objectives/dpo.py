"""Direct preference optimisation."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from trainers.objectives.objective import Objective, Scores, per_token, refuse_smoothing


def dpo_loss(
    chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float = 0.0, loss: str = "sigmoid"
) -> Tensor:
    """The loss of each pair, `[pairs]`, from log π(y|x) − log π_ref(y|x) of its two answers, `[pairs]`, in
    nats.

    With h = chosen − rejected: sigmoid, −(1−ε) log σ(βh) − ε log σ(−βh) (Rafailov et al. 2023, arXiv
    2305.18290, equation 7; with ε = `label_smoothing` it is conservative DPO, Mitchell 2023); hinge,
    max(0, 1 − βh) (Zhao et al. 2023, arXiv 2305.10425); ipo, (h − 1/(2β))² (Azar et al. 2023, arXiv
    2310.12036, equation 17).
    """
    difference = chosen - rejected
    if loss == "ipo":
        return (difference - 1 / (2 * beta)) ** 2
    if loss == "hinge":
        return relu(1 - beta * difference)
    z = beta * difference
    return -(1 - label_smoothing) * logsigmoid(z) - label_smoothing * logsigmoid(-z)


class Dpo(Objective):
    """A policy; its reference is the adapter switched off, or the model before a full fine-tune."""

    name: Literal["dpo"] = "dpo"
    beta: Annotated[float, Field(gt=0, description="how much the policy is held to its reference")] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5, description="how many labels are wrong")] = 0.0
    loss: Annotated[Literal["sigmoid", "hinge", "ipo"], Field(description="of a pair")] = "sigmoid"
    length_normalization: Annotated[bool, Field(description="log-probabilities per token")] = False

    @model_validator(mode="after")
    def _smoothed_sigmoid(self) -> Self:
        refuse_smoothing(self.loss, self.label_smoothing)
        return self

    reference: ClassVar[bool] = True

    def _ratios(self, scores: Scores) -> Tensor:
        scores = per_token(scores, self.length_normalization)
        assert scores.reference is not None
        return scores.values - scores.reference

    def losses(self, scores: Scores) -> Tensor:
        ratios = self._ratios(scores)
        settings = {"label_smoothing": self.label_smoothing, "beta": self.beta}
        return dpo_loss(ratios[:, 0], ratios[:, 1], loss=self.loss, **settings)

    def rewards(self, scores: Scores) -> Tensor:
        return self.beta * self._ratios(scores)
