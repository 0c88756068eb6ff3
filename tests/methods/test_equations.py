"""Experts, prompts and discriminators: each example's formula against the equation of its paper."""

import math

import torch
from torch import Tensor

from tests.methods.published import VOCABULARY, Draw, assert_formula_is


def test_product_of_experts(draw: Draw) -> None:
    """Hinton 2002, eq. 1: the product of the experts' probabilities over its sum."""

    def equation(dog: Tensor, sea: Tensor) -> Tensor:
        product = dog.exp() * sea.exp()
        return product / product.sum()

    dog, sea = draw.dist(some_outside=True), draw.dist(some_outside=True)
    assert_formula_is("product-of-experts", equation, dog=dog, sea=sea)


def test_probability_ensemble(draw: Draw) -> None:
    """Jelinek and Mercer 1980: linear interpolation of probabilities, on any supports, at both ends too."""

    def equation(dog: Tensor, sea: Tensor, w: float) -> Tensor:
        return w * dog.exp() + (1 - w) * sea.exp()

    dog, sea = draw.dist(some_outside=True), draw.dist(some_outside=True)
    assert_formula_is("probability-ensemble", equation, dog=dog, sea=sea, w=draw.number(0, 1))


def test_dexperts(draw: Draw) -> None:
    """Liu et al. 2021: softmax(z + α(z⁺ - z⁻)), on the base model's nucleus."""

    def equation(base: Tensor, expert: Tensor, antiexpert: Tensor, alpha: float) -> Tensor:
        nucleus, reached = [], 0.0
        for token in base.argsort(descending=True).tolist():
            nucleus.append(token)
            reached += math.exp(base[token])
            if reached > 0.9:
                break
        filtered = torch.full((VOCABULARY,), -math.inf, dtype=torch.float64)
        filtered[nucleus] = base[nucleus]
        return torch.softmax(filtered + alpha * (expert - antiexpert), 0)

    experts = {"expert": draw.dist(), "antiexpert": draw.dist()}
    assert_formula_is("dexperts", equation, base=draw.dist(), **experts, alpha=draw.number(-3.2, 3.2))


def test_preadd(draw: Draw) -> None:
    """Pei, Yang and Klein 2023: P(x|prompt)^(1-α) · P(x|prefix, prompt)^α, normalised."""

    def equation(plain: Tensor, prefixed: Tensor, alpha: float) -> Tensor:
        weights = plain.exp() ** (1 - alpha) * prefixed.exp() ** alpha
        return weights / weights.sum()

    dists = {"plain": draw.dist(), "prefixed": draw.dist()}
    assert_formula_is("preadd", equation, **dists, alpha=draw.number(-2, 2))


def test_gedi(draw: Draw) -> None:
    """Krause et al. 2021, with equal priors and a scale of 1: the class posterior of the text
    with each token, from likelihoods whose logarithms are divided by the length, to the power ω."""

    def equation(base: Tensor, pro: Tensor, anti: Tensor, omega: float, t: float, **so_far: float) -> Tensor:
        weights = torch.empty_like(base)
        for token in range(VOCABULARY):
            for_pro = so_far["log_likelihood(pro)"] + float(pro[token])
            for_anti = so_far["log_likelihood(anti)"] + float(anti[token])
            normalised = [math.exp(total / (t + 1)) for total in (for_pro, for_anti)]
            posterior = normalised[0] / sum(normalised)
            weights[token] = math.exp(base[token]) * posterior**omega
        return weights / weights.sum()

    dists = {"base": draw.dist(), "pro": draw.dist(), "anti": draw.dist()}
    so_far = {f"log_likelihood({name})": draw.number(-30, -1) for name in ("pro", "anti")}
    t = torch.arange(6, dtype=torch.float64)
    assert_formula_is("gedi", equation, **dists, **so_far, t=t, omega=draw.number(0, 30))


def test_fudge(draw: Draw) -> None:
    """Yang and Klein 2021: P(label | text, token)^λ · P(token | text), over the 50 likeliest tokens alone."""

    def equation(base: Tensor, formal: tuple[Tensor, float], weight: float) -> Tensor:
        given_token, _ = formal
        weights = torch.zeros_like(base)
        for token in base.argsort(descending=True)[:50].tolist():
            weights[token] = math.exp(base[token]) * math.exp(given_token[token]) ** weight
        return weights / weights.sum()

    assert_formula_is("fudge", equation, base=draw.dist(), formal=draw.judged(), weight=draw.number(0.1, 4))


def test_classifier_free_guidance(draw: Draw) -> None:
    """Sanchez et al. 2023: log P(w) + γ(log P(w|c) - log P(w))."""

    def equation(instructed: Tensor, bare: Tensor, gamma: float) -> Tensor:
        return torch.softmax(bare + gamma * (instructed - bare), 0)

    dists = {"instructed": draw.dist(), "bare": draw.dist()}
    assert_formula_is("classifier-free-guidance", equation, **dists, gamma=draw.number(0, 3))


def test_negative_prompt(draw: Draw) -> None:
    """Sanchez et al. 2023, as a product: P(w|c)^γ / P(w|c̄)^(γ-1), normalised."""

    def equation(positive: Tensor, negative: Tensor, gamma: float) -> Tensor:
        weights = positive.exp() ** gamma / negative.exp() ** (gamma - 1)
        return weights / weights.sum()

    dists = {"positive": draw.dist(), "negative": draw.dist()}
    assert_formula_is("negative-prompt", equation, **dists, gamma=draw.number(1, 6))
