"""Variations that the methods' pages mention, against what they are said to be."""

import math
from pathlib import Path

import torch
from torch import Tensor

from arith import Formula
from tests.methods.published import Draw

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"


def said(page: str, formula: str, **values: Tensor | float) -> Tensor:
    """The formula's log-probabilities; the page has it as it stands here."""
    assert f"`{formula}`" in (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return Formula(formula).evaluate(**values)


def assert_same(log_probs: Tensor, weights: Tensor) -> None:
    torch.testing.assert_close(log_probs, (weights / weights.sum(-1, keepdim=True)).log())


def test_eta_sampling(draw: Draw) -> None:
    """Hewitt et al. 2022: p ≥ η with η = min(ε, √ε·exp(-H))."""
    base, e = draw.dist(), 0.02
    entropy = -(base.exp() * base).sum(-1, keepdim=True)
    eta = torch.minimum(torch.tensor(e), math.sqrt(e) * torch.exp(-entropy))
    found = said("truncation", "epsilon(base, min(e, sqrt(e)*exp(-entropy(base))))", base=base, e=e)
    assert_same(found, base.exp() * (base.exp() >= eta))


def test_self_debiasing_with_the_floor_of_its_code(draw: Draw) -> None:
    base, biased = draw.dist(), draw.dist()
    factor = torch.exp(-50 * (biased.exp() - base.exp()).clamp(min=0)).clamp(min=0.01)
    formula = "base - clamp(lam*relu(p(biased) - p(base)), max=-log(0.01))"
    assert_same(said("self-debiasing", formula, base=base, biased=biased, lam=50), factor * base.exp())


def test_multi_objective_decoding_with_the_forward_divergence_is_a_harmonic_mean(draw: Draw) -> None:
    helpful, harmless = draw.dist(), draw.dist()
    formula = "log(1/(w/p(helpful) + (1 - w)/p(harmless)))"
    found = said("multi-objective-decoding", formula, helpful=helpful, harmless=harmless, w=0.3)
    assert_same(found, 1 / (0.3 / helpful.exp() + 0.7 / harmless.exp()))


def test_multi_objective_decoding_needs_no_reference_where_the_weights_sum_to_one(draw: Draw) -> None:
    dists = {"x": draw.dist(), "y": draw.dist(), "reference": draw.dist()}
    formula = "reference + a*(x - reference) + b*(y - reference)"
    found = said("multi-objective-decoding", formula, **dists, a=0.3, b=0.7)
    assert_same(found, dists["x"].exp() ** 0.3 * dists["y"].exp() ** 0.7)


def test_instructive_decoding_over_one_less_epsilon_is_a_negative_prompt(draw: Draw) -> None:
    positive, negative = draw.dist(), draw.dist()
    guided = Formula("negative + gamma*(positive - negative)")
    found = guided.evaluate(positive=positive, negative=negative, gamma=1 / (1 - 0.3))
    assert_same(found, torch.exp((positive - 0.3 * negative) / (1 - 0.3)))


def test_genarm_at_a_temperature_is_its_divided_sum_at_a_smaller_one(draw: Draw) -> None:
    """The paper's code: (base + α·arm)/(1 + α) at temperature T/(1 + α)."""
    base, arm, alpha, temperature = draw.dist(), draw.dist(), 1.5, 0.7
    theirs = (base + alpha * arm) / (1 + alpha) / (temperature / (1 + alpha))
    found = Formula("base + alpha*arm").evaluate(base=base, arm=arm, alpha=alpha)
    torch.testing.assert_close((found / temperature).log_softmax(-1), theirs.log_softmax(-1))
