"""Reward models, policies and set operators: each example's formula against the equation of its paper."""

import math

import torch
from torch import Tensor

from tests.methods.published import VOCABULARY, Draw, assert_formula_is


def test_multi_objective_decoding(draw: Draw) -> None:
    """Shi et al. 2024, for the KL divergence: ∏ π_i^w_i, normalised, with Σ w_i = 1."""

    def equation(helpful: Tensor, harmless: Tensor, w: float) -> Tensor:
        weights = helpful.exp() ** w * harmless.exp() ** (1 - w)
        return weights / weights.sum()

    dists = {"helpful": draw.dist(), "harmless": draw.dist()}
    assert_formula_is("multi-objective-decoding", equation, **dists, w=draw.number(0, 1))


def test_genarm(draw: Draw) -> None:
    """Xu et al. 2025: log π = -log Z + log π_base + (1/β) log π_r, here with α = 1/β."""

    def equation(base: Tensor, arm: Tensor, alpha: float) -> Tensor:
        beta = 1 / alpha
        unnormalised = base + (1 / beta) * arm
        partition = sum(math.exp(value) for value in unnormalised.tolist())
        return (unnormalised - math.log(partition)).exp()

    dists = {"base": draw.dist(), "arm": draw.dist()}
    assert_formula_is("genarm", equation, **dists, alpha=draw.number(0.1, 10))


def test_genarm_with_several_objectives(draw: Draw) -> None:
    """Xu et al. 2025: log π_base + Σ α_i log π_r,i, normalised; a weight of 0 leaves its model out."""

    def equation(base: Tensor, helpful: Tensor, harmless: Tensor, **alphas: float) -> Tensor:
        weights = base.exp() * helpful.exp() ** alphas["alpha_helpful"]
        weights = weights * harmless.exp() ** alphas["alpha_harmless"]
        return weights / weights.sum()

    dists = {"base": draw.dist(), "helpful": draw.dist(), "harmless": draw.dist()}
    alphas = {"alpha_helpful": draw.number(0, 1), "alpha_harmless": draw.number(0, 4)}
    assert_formula_is("genarm-multi-objective", equation, **dists, **alphas)


def test_weak_to_strong(draw: Draw) -> None:
    """Xu et al. 2025: π_base · π_r^α, normalised, the weak reward model on the strong base."""

    def equation(strong: Tensor, weak: Tensor, alpha: float) -> Tensor:
        weights = strong.exp() * weak.exp() ** alpha
        return weights / weights.sum()

    dists = {"strong": draw.dist(), "weak": draw.dist()}
    assert_formula_is("weak-to-strong", equation, **dists, alpha=draw.number(0.1, 4))


def test_args(draw: Draw) -> None:
    """Khanov et al. 2024: score(v) = LM(v | x) + w · r([x, v]) for the k = 10 most likely tokens, and
    (in the stochastic form) the softmax of the scores over these."""

    def equation(base: Tensor, kindness: tuple[Tensor, float], w: float) -> Tensor:
        rewards, _ = kindness
        candidates = base.argsort(descending=True)[:10].tolist()
        scores = torch.stack([base[v] + w * rewards[v] for v in candidates])
        probabilities = torch.zeros(VOCABULARY, dtype=torch.float64)
        probabilities[candidates] = torch.softmax(scores, 0)
        return probabilities

    rewards = (draw.dist() + 5, draw.number(-5, 5))
    assert_formula_is("args", equation, base=draw.dist(), kindness=rewards, w=draw.number(0, 3))


def test_union(draw: Draw) -> None:
    """Dekoninck et al. 2024: the maximum of log-probabilities in a sum over its coefficients, 2.4 in all."""

    def equation(child: Tensor, adult: Tensor, magic: Tensor, weight: float) -> Tensor:
        union = torch.where(child > magic, child, magic)
        return torch.softmax((child - 0.6 * adult + weight * union) / (1 - 0.6 + weight), 0)

    dists = {"child": draw.dist(), "adult": draw.dist(), "magic": draw.dist()}
    assert_formula_is("union", equation, **dists, weight=draw.number(0, 4))


def test_intersection(draw: Draw) -> None:
    """Dekoninck et al. 2024: the smaller of the probabilities, normalised; out where either is 0."""

    def equation(sailor: Tensor, cook: Tensor) -> Tensor:
        both = zip(sailor.exp().tolist(), cook.exp().tolist(), strict=True)
        smaller = torch.tensor([min(pair) for pair in both], dtype=torch.float64)
        return smaller / smaller.sum()

    dists = {"sailor": draw.dist(some_outside=True), "cook": draw.dist(some_outside=True)}
    assert_formula_is("intersection", equation, **dists)


def test_lma_classifier(draw: Draw) -> None:
    """Dekoninck et al. 2024: Σ λ_i log Q_i + λ (log C(text, token) - log C(text)) over the sum of the λ_i;
    the classifier is run on the formula's 50 most likely tokens, and the others count 0."""

    def equation(child: Tensor, adult: Tensor, formal: tuple[Tensor, float], weight: float) -> Tensor:
        with_token, without = formal
        prompted = child - 0.6 * adult
        gain = torch.zeros_like(prompted)
        for token in prompted.argsort(descending=True)[:50].tolist():
            gain[token] = with_token[token] - without
        return torch.softmax((prompted + weight * gain) / (1 - 0.6), 0)

    dists = {"child": draw.dist(), "adult": draw.dist()}
    assert_formula_is("lma-classifier", equation, **dists, formal=draw.judged(), weight=draw.number(0, 3))


def test_anchored_guidance(draw: Draw) -> None:
    """He et al. 2026: of all p with KL(p‖anchor) ≤ k the one with the least KL(p‖guide), which lies at
    p ∝ anchor^(1-w) · guide^w for the largest w of [0, 1] within the bound."""

    def mixed(base: Tensor, guided: Tensor, w: float) -> Tensor:
        weights = base.exp() ** (1 - w) * guided.exp() ** w
        return weights / weights.sum()

    def divergence(p: Tensor, base: Tensor) -> float:
        total = 0.0
        for probability, usual in zip(p.tolist(), base.tolist(), strict=True):
            total += probability * (math.log(probability) - usual)
        return total

    def equation(base: Tensor, guided: Tensor, bound: float, most: float) -> Tensor:
        low, high = 0.0, most
        if divergence(mixed(base, guided, most), base) <= bound:
            return mixed(base, guided, most)
        for _ in range(80):
            middle = (low + high) / 2
            inside = divergence(mixed(base, guided, middle), base) <= bound
            low, high = (middle, high) if inside else (low, middle)
        return mixed(base, guided, low)

    dists = {"base": draw.dist(), "guided": draw.dist()}
    numbers = {"bound": draw.number(0.01, 3), "most": draw.number(0.5, 3)}
    assert_formula_is("anchored-guidance", equation, **dists, **numbers)
