"""What a fit minimises, as a function of the log-probabilities of texts."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

LossOfTexts = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """`columns` name the texts of one line of data. `loss` and `report` are functions of all texts' total
    log-probabilities `[texts]`, those of a line next to each other, and of their numbers of tokens `[texts]`;
    `report` gives figures by what they are called."""

    name: str
    columns: tuple[str, ...]
    loss: LossOfTexts
    report: Callable[[Tensor, Tensor], dict[str, float]]


def negative_log_likelihood(totals: Tensor, counts: Tensor) -> Tensor:
    """The mean over all tokens of -log p(token), in nats."""
    return -totals.sum() / counts.sum()


def logistic_preference(totals: Tensor, counts: Tensor) -> Tensor:
    """The mean over pairs of -log sigmoid(log p(chosen) - log p(rejected)): the negative log-likelihood of
    the preferences in the model of Bradley and Terry 1952, with log-probabilities as rewards."""
    return softplus(-margins(totals)).mean()


def margins(totals: Tensor) -> Tensor:
    """log p(chosen) - log p(rejected) of each pair, `[pairs]`."""
    return totals[::2] - totals[1::2]


def _likelihood_report(totals: Tensor, counts: Tensor) -> dict[str, float]:
    return {"log-likelihood of a token (nats)": -negative_log_likelihood(totals, counts).item()}


def _preference_report(totals: Tensor, counts: Tensor) -> dict[str, float]:
    return {
        "-log sigmoid(margin) of a pair": logistic_preference(totals, counts).item(),
        "pairs ranked right": (margins(totals) > 0).double().mean().item(),
    }


OBJECTIVES = {
    one.name: one
    for one in (
        Objective("likelihood", ("completion",), negative_log_likelihood, _likelihood_report),
        Objective("preference", ("chosen", "rejected"), logistic_preference, _preference_report),
    )
}
