"""Losses against values derived by hand, and their gradients against finite differences."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from trainers.loop.figures import means, row_figures
from trainers.objectives import Arm, Dpo, Reward, Sft
from trainers.objectives.arm import arm_loss
from trainers.objectives.dpo import dpo_loss
from trainers.objectives.objective import Objective, Scores
from trainers.objectives.reward import reward_loss
from trainers.objectives.sft import sft_loss

LN3 = math.log(3)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_loss_of_an_arm() -> None:
    """β = 0.5, Δ = 2 ln 3: z = ln 3, σ(z) = 3/4. So −log σ(z) = ln(4/3), and with label smoothing 0.1 it is
    0.9 ln(4/3) + 0.1 ln 4. With the margin ln 3, z = 0 and the loss is ln 2. The hinge of z = ln 3 is 0, and
    of z = −ln 3 it is 1 + ln 3."""
    chosen, rejected = tensor(-3.0), tensor(-3.0 - 2 * LN3)
    assert arm_loss(chosen, rejected, beta=0.5).item() == pytest.approx(math.log(4 / 3))
    smoothed = arm_loss(chosen, rejected, beta=0.5, label_smoothing=0.1).item()
    assert smoothed == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    assert arm_loss(chosen, rejected, beta=0.5, margin=LN3).item() == pytest.approx(math.log(2))
    assert arm_loss(chosen, rejected, beta=0.5, loss="hinge").item() == 0
    assert arm_loss(rejected, chosen, beta=0.5, loss="hinge").item() == pytest.approx(1 + LN3)
    assert arm_loss(chosen, rejected, beta=0.5, loss="hinge", margin=LN3).item() == pytest.approx(1)


def test_the_loss_of_dpo() -> None:
    """h = 4 ln 3 and β = 0.25: z = ln 3, as above. IPO: (h − 1/(2·0.25))² = (4 ln 3 − 2)²."""
    chosen, rejected = tensor(3 * LN3), tensor(-LN3)
    assert dpo_loss(chosen, rejected, beta=0.25).item() == pytest.approx(math.log(4 / 3))
    smoothed = dpo_loss(chosen, rejected, beta=0.25, label_smoothing=0.2).item()
    assert smoothed == pytest.approx(0.8 * math.log(4 / 3) + 0.2 * math.log(4))
    assert dpo_loss(rejected, chosen, beta=0.25, loss="hinge").item() == pytest.approx(1 + LN3)
    assert dpo_loss(chosen, rejected, beta=0.25, loss="ipo").item() == pytest.approx((4 * LN3 - 2) ** 2)


def test_the_losses_of_rewards_and_of_texts() -> None:
    """r_w − r_l = ln 3 gives ln(4/3), and less a margin of ln 3 it gives ln 2; −12 nats over 4 tokens are a
    loss of 3."""
    assert reward_loss(tensor(LN3), tensor(0)).item() == pytest.approx(math.log(4 / 3))
    assert reward_loss(tensor(LN3), tensor(0), margin=LN3).item() == pytest.approx(math.log(2))
    assert sft_loss(tensor(-12), tensor(4)).item() == 3


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: arm_loss(a, b, beta=0.3, margin=0.2, label_smoothing=0.1),
        lambda a, b: arm_loss(a, b, beta=0.3, loss="hinge"),
        lambda a, b: dpo_loss(a, b, beta=0.3, label_smoothing=0.1),
        lambda a, b: dpo_loss(a, b, beta=0.3, loss="ipo"),
        lambda a, b: reward_loss(a, b, margin=0.1),
        lambda a, b: sft_loss(a, b.abs() + 1),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    inputs = [tensor(-2.0, -1.0, 0.5).requires_grad_(), tensor(-2.5, 0.4, -1.0).requires_grad_()]
    assert torch.autograd.gradcheck(loss, inputs)


def test_length_normalization_divides_by_the_tokens_of_each_answer() -> None:
    """−12/4 = −3 against −10/2 = −5: the longer answer wins per token, and loses as a whole."""
    scores = Scores(tensor(-12, -10)[None], torch.tensor([[4, 2]]), tensor(-8, -10)[None])
    assert Arm(beta=1.0).losses(scores).item() == pytest.approx(math.log(1 + math.exp(2)))
    normalized = Arm(beta=1.0, length_normalization=True)
    assert normalized.losses(scores).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert normalized.rewards(scores).tolist() == [[-3, -5]]
    ratios = Dpo(beta=1.0, length_normalization=True)  # (−12 + 8)/4 = −1 against (−10 + 10)/2 = 0
    assert ratios.losses(scores).item() == pytest.approx(math.log(1 + math.exp(1)))


def test_figures_of_pairs_compare_rewards_and_halve_ties() -> None:
    scores = Scores(tensor(-1, -2, -2, -2, -3, -2).view(3, 2), torch.ones(3, 2), None)
    figures = row_figures(Arm(beta=0.5), scores)
    assert figures["accuracy"].tolist() == [1, 0.5, 0]
    assert figures["margin"].tolist() == [0.5, 0, -0.5]
    assert means(figures, torch.ones(3))["accuracy"] == 0.5


def test_a_policy_that_is_its_reference_prefers_nothing() -> None:
    values = tensor(-5, -7, -1, -2).view(2, 2)
    scores = Scores(values, torch.ones(2, 2), values.clone())
    figures = row_figures(Dpo(), scores)
    assert figures["accuracy"].tolist() == [0.5, 0.5]
    assert figures["loss"].tolist() == pytest.approx([math.log(2)] * 2)


def test_the_mean_loss_of_texts_is_per_token() -> None:
    """−6 nats over 2 tokens and −2 over 4: 8 nats over 6 tokens."""
    scores = Scores(tensor(-6, -2)[:, None], torch.tensor([[2], [4]]))
    figures = row_figures(Sft(), scores)
    assert means(figures, Sft().weights(scores.tokens))["loss"] == pytest.approx(8 / 6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Arm, {"beta": 0}),
        (Arm, {"beta": math.nan}),
        (Arm, {"label_smoothing": 0.5}),
        (Arm, {"loss": "ipo"}),
        (Arm, {"loss": "hinge", "label_smoothing": 0.1}),
        (Dpo, {"beta": -1.0}),
        (Dpo, {"margin": 1.0}),
        (Dpo, {"loss": "hinge", "label_smoothing": 0.1}),
        (Dpo, {"loss": "ipo", "label_smoothing": 0.1}),
        (Reward, {"beta": 1.0}),
        (Sft, {"beta": 1.0}),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: type[Objective], settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**settings)
