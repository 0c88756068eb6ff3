"""Contrasts of models, layers and contexts: each example's formula against the equation of its paper."""

import math

import torch
from torch import Tensor

from tests.methods.published import VOCABULARY, Draw, assert_formula_is


def plausible(log_probs: Tensor, alpha: float) -> list[int]:
    """Li et al. 2022: the tokens with p ≥ α · max p."""
    best = max(log_probs.exp().tolist())
    return [token for token in range(VOCABULARY) if math.exp(log_probs[token]) >= alpha * best]


def softmax_over(tokens: list[int], scores: Tensor) -> Tensor:
    """The softmax of the scores of these tokens; the others have probability 0."""
    result = torch.zeros(VOCABULARY, dtype=torch.float64)
    result[tokens] = torch.softmax(scores[tokens], 0)
    return result


def kl(p: Tensor, q: Tensor) -> float:
    return sum(float(a) * math.log(a / b) for a, b in zip(p, q, strict=True))


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    middle = (p + q) / 2
    return kl(p, middle) / 2 + kl(q, middle) / 2


def test_contrastive_decoding_2022(draw: Draw) -> None:
    """Li et al. 2022: log p_expert/p_amateur on the plausible tokens, the amateur at temperature τ."""

    def equation(expert: Tensor, amateur: Tensor, alpha: float, tau: float) -> Tensor:
        tempered = torch.softmax(amateur / tau, 0)
        return softmax_over(plausible(expert, alpha), torch.log(expert.exp() / tempered))

    dists = {"expert": draw.dist(), "amateur": draw.dist()}
    numbers = {"alpha": draw.number(0.01, 0.5), "tau": draw.number(0.5, 1.5)}
    assert_formula_is("contrastive-decoding-2022", equation, **dists, **numbers)


def test_contrastive_decoding_2023(draw: Draw) -> None:
    """O'Brien and Lewis 2023: (1 + β)s_e - β·s_a where s_e ≥ log α + max s_e."""

    def equation(expert: Tensor, amateur: Tensor, alpha: float, beta: float) -> Tensor:
        cut = math.log(alpha) + float(expert.max())
        valid = [token for token in range(VOCABULARY) if float(expert[token]) >= cut]
        return softmax_over(valid, (1 + beta) * expert - beta * amateur)

    dists = {"expert": draw.dist(), "amateur": draw.dist()}
    numbers = {"alpha": draw.number(0.01, 0.5), "beta": draw.number(0, 1)}
    assert_formula_is("contrastive-decoding-2023", equation, **dists, **numbers)


def test_dola(draw: Draw) -> None:
    """Chuang et al. 2024: log q_N/q_M on the plausible tokens of q_N, where M is the candidate
    layer whose Jensen-Shannon divergence from q_N is largest."""

    def equation(base: Tensor, alpha: float, **layers: Tensor) -> Tensor:
        divergences = {name: jensen_shannon(base.exp(), early.exp()) for name, early in layers.items()}
        premature = layers[max(divergences, key=lambda name: divergences[name])]
        return softmax_over(plausible(base, alpha), torch.log(base.exp() / premature.exp()))

    layers = {f"layer(base, {k})": draw.dist() for k in (16, 18, 20, 22, 24, 26, 28)}
    assert_formula_is("dola", equation, base=draw.dist(), **layers, alpha=draw.number(0.01, 0.5))


def test_context_aware_decoding(draw: Draw) -> None:
    """Shi et al. 2023: p(y|c, x) · (p(y|c, x)/p(y|x))^α, normalised."""

    def equation(informed: Tensor, uninformed: Tensor, alpha: float) -> Tensor:
        weights = informed.exp() * (informed.exp() / uninformed.exp()) ** alpha
        return weights / weights.sum()

    dists = {"informed": draw.dist(), "uninformed": draw.dist()}
    assert_formula_is("context-aware-decoding", equation, **dists, alpha=draw.number(0, 2))


def test_adacad(draw: Draw) -> None:
    """Wang et al. 2025: context-aware decoding with α = JSD(p(y|x)‖p(y|c, x)) in nats."""

    def equation(informed: Tensor, uninformed: Tensor) -> Tensor:
        alpha = jensen_shannon(uninformed.exp(), informed.exp())
        return torch.softmax((1 + alpha) * informed - alpha * uninformed, 0)

    assert_formula_is("adacad", equation, informed=draw.dist(), uninformed=draw.dist())


def test_proxy_tuning(draw: Draw) -> None:
    """Liu et al. 2024: softmax(s_M + α(s_M⁺ - s_M⁻)), published with α = 1 and, as a control, with others."""

    def equation(base: Tensor, tuned: Tensor, untuned: Tensor, alpha: float) -> Tensor:
        return torch.softmax(base + alpha * (tuned - untuned), 0)

    dists = {"base": draw.dist(), "tuned": draw.dist(), "untuned": draw.dist()}
    assert_formula_is("proxy-tuning", equation, **dists, alpha=draw.number(1, 2))


def test_emulated_fine_tuning(draw: Draw) -> None:
    """Mitchell et al. 2023: π_ref^N · π^M/π_ref^M, normalised at each step."""

    def equation(large_base: Tensor, small_chat: Tensor, small_base: Tensor) -> Tensor:
        weights = large_base.exp() * small_chat.exp() / small_base.exp()
        return weights / weights.sum()

    dists = {"large_base": draw.dist(), "small_chat": draw.dist(), "small_base": draw.dist()}
    assert_formula_is("emulated-fine-tuning", equation, **dists)


def test_decoding_time_realignment(draw: Draw) -> None:
    """Liu et al. 2024: softmax(λ·h_aligned + (1 - λ)·h_reference), with λ above 1 too."""

    def equation(reference: Tensor, aligned: Tensor, weight: float) -> Tensor:
        return torch.softmax(weight * aligned + (1 - weight) * reference, 0)

    dists = {"reference": draw.dist(), "aligned": draw.dist()}
    assert_formula_is("decoding-time-realignment", equation, **dists, weight=draw.number(0, 3))
