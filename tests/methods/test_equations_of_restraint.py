"""Unwanted text, supports and gates: each example's formula against the equation of its paper."""

import math

import torch
from torch import Tensor

from tests.methods.published import ROWS, VOCABULARY, Draw, assert_formula_is


def test_self_debiasing(draw: Draw) -> None:
    """Schick et al. 2021: Δ = p(w|x) - p(w|sdb(x, y)), and p is scaled by 1 where Δ ≥ 0, else by exp(λ·Δ)."""

    def equation(base: Tensor, biased: Tensor, lam: float) -> Tensor:
        weights = torch.zeros_like(base)
        for token in range(VOCABULARY):
            usual, unwanted = math.exp(base[token]), math.exp(biased[token])
            difference = usual - unwanted
            scale = 1.0 if difference >= 0 else math.exp(lam * difference)
            weights[token] = scale * usual
        return weights / weights.sum()

    dists = {"base": draw.dist(), "biased": draw.dist()}
    assert_formula_is("self-debiasing", equation, **dists, lam=draw.number(0, 100))


def test_instructive_decoding(draw: Draw) -> None:
    """Kim et al. 2024: softmax(z - ε·z̃), of logits that need not be normalised."""
    shift = draw.number(-5, 5)

    def equation(instructed: Tensor, noisy: Tensor, eps: float) -> Tensor:
        logits, noisy_logits = instructed + float(shift[2]), noisy + float(shift[3])
        return torch.softmax(logits - eps * noisy_logits, 0)

    dists = {"instructed": draw.dist(), "noisy": draw.dist()}
    assert_formula_is("instructive-decoding", equation, **dists, eps=draw.number(0, 0.5))


def test_unlearning(draw: Draw) -> None:
    """Ji et al. 2024: l_f(Y|X) = l(Y|X) - α·l_a(Y|X), of logits that need not be normalised."""
    shift = draw.number(-5, 5)

    def equation(base: Tensor, assistant: Tensor, alpha: float) -> Tensor:
        return torch.softmax((base + float(shift[2])) - alpha * (assistant + float(shift[3])), 0)

    dists = {"base": draw.dist(), "assistant": draw.dist()}
    assert_formula_is("unlearning", equation, **dists, alpha=draw.number(0, 1))


def kept(probabilities: Tensor, tokens: list[int]) -> Tensor:
    """These tokens alone, their probabilities over their sum."""
    result = torch.zeros_like(probabilities)
    result[tokens] = probabilities[tokens] / probabilities[tokens].sum()
    return result


def until_reached(probabilities: Tensor, ranked: list[int], mass: float) -> list[int]:
    """The first tokens whose probabilities together reach the mass."""
    tokens, reached = [], 0.0
    for token in ranked:
        if reached >= mass:
            break
        tokens.append(token)
        reached += float(probabilities[token])
    return tokens


def top_p(probabilities: Tensor, p: float) -> Tensor:
    """Holtzman et al. 2020: the smallest set of the most likely tokens whose probabilities reach p."""
    return kept(
        probabilities, until_reached(probabilities, probabilities.argsort(descending=True).tolist(), p)
    )


def min_p(probabilities: Tensor, p_base: float) -> Tensor:
    """Nguyen et al. 2025: the tokens with P(v) ≥ p_base · max P."""
    floor = p_base * max(probabilities.tolist())
    return kept(probabilities, [v for v, p in enumerate(probabilities.tolist()) if p >= floor])


def typical(probabilities: Tensor, tau: float) -> Tensor:
    """Meister et al. 2023: the tokens with the least |H + log p|, until they reach τ."""
    possible = [v for v, p in enumerate(probabilities.tolist()) if p > 0]
    surprise = {v: -math.log(probabilities[v]) for v in possible}
    entropy = sum(float(probabilities[v]) * surprise[v] for v in possible)
    ranked = sorted(possible, key=lambda v: abs(entropy - surprise[v]))
    return kept(probabilities, until_reached(probabilities, ranked, tau))


def epsilon(probabilities: Tensor, least: float) -> Tensor:
    """Hewitt et al. 2022: the tokens with p > ε, and in any case the most likely one."""
    likely = [v for v, p in enumerate(probabilities.tolist()) if p > least]
    return kept(probabilities, likely or [int(probabilities.argmax())])


OFF = {"nucleus": 1.0, "share": 1e-12, "mass": 1.0, "least": 1e-12}


def chained(base: Tensor, nucleus: float, share: float, mass: float, least: float) -> Tensor:
    return epsilon(typical(min_p(top_p(base.exp(), nucleus), share), mass), least)


def test_truncation_rule_by_rule(draw: Draw) -> None:
    only = {
        "nucleus": (draw.number(0.1, 0.99), lambda base, nucleus, **_: top_p(base.exp(), nucleus)),
        "share": (draw.number(0.01, 0.9), lambda base, share, **_: min_p(base.exp(), share)),
        "mass": (draw.number(0.1, 0.99), lambda base, mass, **_: typical(base.exp(), mass)),
        "least": (draw.number(0.001, 0.9), lambda base, least, **_: epsilon(base.exp(), least)),
    }
    for name, (values, equation) in only.items():
        numbers = {other: torch.full((ROWS,), value).double() for other, value in OFF.items()} | {
            name: values
        }
        assert_formula_is("truncation", equation, base=draw.dist(), **numbers)


def test_truncation_rules_in_a_chain(draw: Draw) -> None:
    numbers = {
        "nucleus": draw.number(0.6, 0.95),
        "share": draw.number(0.01, 0.2),
        "mass": draw.number(0.5, 0.95),
        "least": draw.number(0.01, 0.1),
    }
    assert_formula_is("truncation", chained, base=draw.dist(some_outside=True), **numbers)


def test_entropy_gated_contrast(draw: Draw) -> None:
    """Where the expert's entropy is above the limit, O'Brien and Lewis 2023; else the expert itself."""

    def equation(expert: Tensor, amateur: Tensor, limit: float, alpha: float, beta: float) -> Tensor:
        entropy = -sum(math.exp(value) * value for value in expert.tolist())
        if entropy <= limit:
            return expert.exp()
        cut = math.log(alpha) + max(expert.tolist())
        valid = [v for v, value in enumerate(expert.tolist()) if value >= cut]
        contrast = ((1 + beta) * expert - beta * amateur).exp()
        return kept(contrast, valid)

    dists = {"expert": draw.dist(), "amateur": draw.dist()}
    numbers = {"limit": draw.number(0.5, 4), "alpha": draw.number(0.01, 0.5), "beta": draw.number(0, 1)}
    assert_formula_is("entropy-gated-contrast", equation, **dists, **numbers)
