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


def posterior_of_gedi(values: dict[str, Tensor], gamma: float, prior: float) -> Tensor:
    """P(c)·P(text|c)^(γ/t) over the sum of both classes, with t the length of the text with each token."""
    length = values["t"].unsqueeze(-1) + 1
    likelihoods = {
        name: (values[f"log_likelihood({name})"].unsqueeze(-1) + values[name]).exp() ** (gamma / length)
        for name in ("pro", "anti")
    }
    wanted, other = prior * likelihoods["pro"], (1 - prior) * likelihoods["anti"]
    return wanted / (wanted + other)


def gedi_values(draw: Draw) -> dict[str, Tensor]:
    values = {name: draw.dist() for name in ("base", "pro", "anti")}
    values |= {f"log_likelihood({name})": draw.number(-20, -10) for name in ("pro", "anti")}
    return {**values, "t": torch.arange(6, dtype=torch.float64)}


EVIDENCE = "length = t + 1\nevidence = log_likelihood(pro) + pro - log_likelihood(anti) - anti\n"


def test_gedi_with_its_own_scale_and_unequal_priors(draw: Draw) -> None:
    values = gedi_values(draw)
    formula = "sigmoid(gamma*evidence/length + log_ratio)"
    assert f"`{formula}`" in (PAGES / "gedi.md").read_text(encoding="utf-8")
    parameters = {"gamma": 1.7, "log_ratio": math.log(0.2 / 0.8)}
    found = Formula(f"{EVIDENCE}base + 30*log({formula})", **parameters).evaluate(**values)
    assert_same(found, values["base"].exp() * posterior_of_gedi(values, 1.7, 0.2) ** 30)


def test_gedi_with_its_filter(draw: Draw) -> None:
    """Krause et al. 2021: V_m are the best of the posterior, as few as have a probability of ρ in P_w; V_p
    those above τ; their union is kept."""
    values, rho, tau = gedi_values(draw), 0.4, 0.6
    formula = "max(top_p(weighted, rho, by=evidence), within(weighted, sigmoid(evidence/length) > tau))"
    assert f"`{formula}`" in (PAGES / "gedi.md").read_text(encoding="utf-8")
    weighted = "weighted = base + 3*log(sigmoid(evidence/length))\n"
    found = Formula(EVIDENCE + weighted + formula).evaluate(**values, rho=rho, tau=tau)
    posterior = posterior_of_gedi(values, 1.0, 0.5)
    weights = values["base"].exp() * posterior**3
    kept = posterior > tau
    passing = kept.sum(-1)
    for row, shares in enumerate(weights / weights.sum(-1, keepdim=True)):
        reached = 0.0
        for token in posterior[row].argsort(descending=True).tolist():
            if reached >= rho:
                break
            kept[row, token] = True
            reached += float(shares[token])
    assert bool((kept.sum(-1) > passing).any()) and bool((passing > 0).any()) and not bool(kept.all(-1).any())
    assert_same(found, weights * kept)


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
