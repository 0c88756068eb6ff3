"""Explanations against the same numbers in plain torch over plain forwards, whole logits and no cache."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Engine, Formula, RewardModel
from arith.runtime.explaining.explanation import Explanation
from tests.runtime.reference import chosen, fused, plain, raw

PROMPT = "the rain in spain"
TEXT = " falls on the plain"
INF = float("inf")
Reference = Callable[..., tuple[Tensor, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def operands(tiny_llama: str, tiny_llama_other: str, lora_a: str) -> dict[str, LLM]:
    return {
        "base": raw(tiny_llama),
        "a": raw(tiny_llama, lora_a),
        "other": raw(tiny_llama_other),
    }


def ids_of(operand: LLM, text: str) -> list[int]:
    return list(plain(operand.model).tokenizer(text, add_special_tokens=False).input_ids)


def prompts_of(operands: dict[str, LLM]) -> dict[str, list[int]]:
    return {name: plain(one.model).raw(PROMPT) for name, one in operands.items()}


def kl(left: Tensor, right: Tensor) -> Tensor:
    """Term by term, so that what has no probability counts nothing."""
    p, ratio = left.exp(), left - right
    return torch.tensor([[a * b if a else 0.0 for a, b in zip(*pair, strict=True)]
                         for pair in zip(p.tolist(), ratio.tolist(), strict=True)]).sum(-1)  # fmt: skip


def entropies(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).nan_to_num().sum(-1)


def values(explanation: Explanation, read: Callable[[Any], float]) -> list[float]:
    return [read(token) for token in explanation.tokens]


def near(expected: Any) -> Any:
    return pytest.approx(expected.tolist() if isinstance(expected, Tensor) else expected, abs=2e-4)


def nucleus(log_probs: Tensor, p: float) -> Tensor:
    ranked, order = log_probs.softmax(-1).sort(-1, descending=True)
    return torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, order, ranked.cumsum(-1) - ranked < p)


def averaged(base: Tensor, a: Tensor, w: float) -> Tensor:
    return (base + w * a) / (1 + w)


def rising(base: Tensor, a: Tensor) -> Tensor:
    return base + 0.1 * torch.arange(len(base))[:, None] * a


def restricted(base: Tensor, a: Tensor, other: Tensor) -> Tensor:
    return (a - 0.5 * other).masked_fill(~nucleus(base, 0.99), -INF)


# The formula, the same in torch, parameters, and the weight of each term at each step.
CASES: list[tuple[str, Callable[..., Tensor], dict[str, float], dict[str, Callable[[int], float]]]] = [
    ("base", lambda base: base, {}, {"base": lambda t: 1.0}),
    (
        "base + w*a - 0.4*other",
        lambda base, a, other, w: base + w * a - 0.4 * other,
        {"w": 0.7},
        {"base": lambda t: 1.0, "a": lambda t: 0.7, "other": lambda t: -0.4},
    ),
    ("base + 0.1*t*a", rising, {}, {"base": lambda t: 1.0, "a": lambda t: 0.1 * t}),
    (
        "average(base + w*a)",
        averaged,
        {"w": 0.5},
        {"base": lambda t: 1 / 1.5, "a": lambda t: 0.5 / 1.5},
    ),
    (
        "within(a - 0.5*other, top_p(base, 0.99))",
        restricted,
        {},
        {"a": lambda t: 1.0, "other": lambda t: -0.5},
    ),
    ("temper(base + a, 2)", lambda base, a: (base + a) / 2, {}, dict.fromkeys(("base", "a"), lambda t: 0.5)),
]


@pytest.mark.parametrize(("text", "combine", "params", "weights"), CASES, ids=[case[0] for case in CASES])
def test_numbers_equal_a_plain_recomputation(
    text: str,
    combine: Callable[..., Tensor],
    params: dict[str, float],
    weights: dict[str, Callable[[int], float]],
    operands: dict[str, LLM],
) -> None:
    used = {name: operands[name] for name in Formula(text).operands}
    found = Engine(Formula(text, **used)).explain(PROMPT, TEXT, params=params, base="base", top=5)
    tokens = ids_of(operands["base"], TEXT)
    logs, single = fused(combine, used, prompts_of(used), tokens, **params)
    assert [token.chosen.token_id for token in found.tokens] == tokens
    assert values(found, lambda t: t.chosen.log_prob) == near(chosen(logs, tokens))
    assert values(found, lambda t: t.kl) == near(kl(logs, single["base"]))
    assert values(found, lambda t: t.entropy) == near(entropies(logs))
    assert values(found, lambda t: t.base_choice.token_id) == single["base"].argmax(-1).tolist()
    best = logs.sort(-1, descending=True).indices
    for step, token in enumerate(found.tokens):
        assert best[step, token.rank - 1] == tokens[step] or math.isinf(token.chosen.log_prob)
        assert [one.token_id for one in token.alternatives] == best[step, :5].tolist()
        assert token.weights == pytest.approx({name: weight(step) for name, weight in weights.items()})
        for one in (token.chosen, token.base_choice, *token.alternatives):
            assert one.log_prob == near(float(logs[step, one.token_id]))
            for name in used:
                assert one.log_probs[name] == near(float(single[name][step, one.token_id]))
            for name, weight in weights.items():
                expected = weight(step) * float(single[name][step, one.token_id])
                assert one.contributions[name] == near(expected)
        total = sum(weight(step) * single[name][step] for name, weight in weights.items())
        assert isinstance(total, Tensor) and token.log_normalizer is not None
        inside = total[~logs[step].isneginf()]
        assert token.log_normalizer == near(float(inside.logsumexp(-1)))


def test_contributions_add_up_to_the_log_probability(operands: dict[str, LLM]) -> None:
    used = {name: operands[name] for name in ("base", "a", "other")}
    formula = Formula("base + 0.6*max(a, other) + 2*(p(a) > 0.01) - w*other", **used, w=0.3)
    found = Engine(formula).explain(PROMPT, TEXT)
    assert dict(found.terms) == {
        "base": "base",
        "max(a, other)": None,
        "(p(a) > 0.01)": None,
        "other": "other",
    }
    for token in found.tokens:
        assert token.log_normalizer is not None
        for one in (token.chosen, token.base_choice, *token.alternatives):
            assert sum(one.contributions.values()) == near(one.log_prob + token.log_normalizer)
            assert one.contributions["(p(a) > 0.01)"] == 2 * (one.log_probs["a"] > math.log(0.01))


@pytest.mark.parametrize("text", ["max(base, a)", "log(0.5*p(base) + 0.5*p(a))", "min_p(max(base, a), 0.01)"])
def test_what_is_no_sum_has_no_contributions_and_all_else(text: str, operands: dict[str, LLM]) -> None:
    engine = Engine(Formula(text, base=operands["base"], a=operands["a"]))
    found = engine.explain(PROMPT, [265, 110], top=3)
    score = engine.score(PROMPT, [[265, 110]])[0]
    assert not found.terms
    assert values(found, lambda t: t.chosen.log_prob) == near(score.logprobs["formula"])
    assert values(found, lambda t: t.chosen.log_probs["a"]) == near(score.logprobs["a"])
    for token in found.tokens:
        assert (token.log_normalizer, token.weights, token.chosen.contributions) == (None, {}, {})
        assert token.kl > 0


def test_a_guide_contributes_its_weight_times_what_it_says(tiny_llama: str, tiny_reward: str) -> None:
    bound = {"base": LLM(tiny_llama), "r": RewardModel(tiny_reward)}
    guided = "guide(r, on=base, k=6)"
    weight, tokens = 0.5, [97, 98, 265]
    found = Engine(Formula(f"base + 0.5*{guided}", **bound)).explain("hi", tokens, top=6)
    without = Engine(bound["base"]).score("hi", [tokens])[0]
    assert list(found.terms) == ["base", guided]
    for token, base in zip(found.tokens, without.logprobs["formula"], strict=True):
        assert token.chosen.log_probs["base"] == near(base)
        said = {one.token_id: one.contributions[guided] / weight for one in token.alternatives}
        assert len(set(said.values())) > 1, "rewards of candidates differ"
        for one in token.alternatives:
            assert token.log_normalizer is not None
            parts = one.log_probs["base"] + weight * said[one.token_id]
            assert one.log_prob == near(parts - token.log_normalizer)


def test_an_operand_of_weight_0_does_not_run(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base + w*other", base=operands["base"], other=operands["other"]))
    engine.stats.reset()
    found = engine.explain(PROMPT, TEXT, params={"w": 0})
    assert found.not_run == ("other",)
    prompt, tokens = len(plain(operands["base"].model).raw(PROMPT)), len(found.tokens)
    assert engine.stats.tokens_useful == prompt + tokens - 1
    for token in found.tokens:
        assert token.kl == near(0.0) and set(token.chosen.log_probs) == {"base"}
        assert token.chosen.contributions["other"] == 0 and token.weights["other"] == 0


def test_the_base_runs_even_where_its_weight_is_0(operands: dict[str, LLM]) -> None:
    used = {"base": operands["base"], "a": operands["a"]}
    engine = Engine(Formula("(1 - h)*base + h*a", **used))
    found = engine.explain(PROMPT, TEXT, params={"h": 1})
    assert found.not_run == () and found.base == "base"
    logs, single = fused(lambda base, a: a, used, prompts_of(used), ids_of(used["base"], TEXT))
    assert values(found, lambda t: t.kl) == near(kl(logs, single["base"]))
    assert values(found, lambda t: t.chosen.contributions["base"]) == [0.0] * len(found.tokens)


def test_another_base_is_compared_with(operands: dict[str, LLM]) -> None:
    used = {"base": operands["base"], "other": operands["other"]}
    found = Engine(Formula("base + 0.5*other", **used)).explain(PROMPT, TEXT, base="other")
    tokens = ids_of(used["base"], TEXT)
    logs, single = fused(lambda base, other: base + 0.5 * other, used, prompts_of(used), tokens)
    assert values(found, lambda t: t.kl) == near(kl(logs, single["other"]))
    assert values(found, lambda t: t.base_choice.token_id) == single["other"].argmax(-1).tolist()


def test_a_text_is_generated_where_none_is_given(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base + 0.5*a", base=operands["base"], a=operands["a"]))
    options: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0.8, "seed": 5, "top_k": 20}
    [result] = engine.generate(PROMPT, **options)
    found = engine.explain(PROMPT, **options)
    assert [token.chosen.token_id for token in found.tokens] == result.token_ids
    assert found.text == result.text
    assert values(found, lambda t: t.chosen.log_prob) == near(result.logprobs["formula"])
    assert found.log_prob == near(sum(result.logprobs["formula"]))
    assert found.mean_kl == near(sum(values(found, lambda t: t.kl)) / len(found.tokens))


def test_a_long_text_is_explained_as_in_one_piece(operands: dict[str, LLM]) -> None:
    """200 tokens are more than are evaluated together."""
    used = {"base": operands["base"], "a": operands["a"]}
    tokens = [32 + (7 * number * number) % 90 for number in range(200)]
    found = Engine(Formula("base + 0.01*t*a", **used)).explain("on", tokens, top=1)
    prompt = {name: plain(one.model).raw("on") for name, one in used.items()}
    step = torch.arange(200)[:, None]
    logs, single = fused(lambda base, a: base + 0.01 * step * a, used, prompt, tokens)
    assert values(found, lambda t: t.chosen.log_prob) == near(chosen(logs, tokens))
    assert values(found, lambda t: t.kl) == near(kl(logs, single["base"]))


def test_what_the_formula_excludes_has_log_probability_minus_infinity(operands: dict[str, LLM]) -> None:
    used = {"base": operands["base"], "a": operands["a"]}
    found = Engine(Formula("base - 0.5*top_k(a, 3)", **used)).explain(PROMPT, [97, 98, 99], top=10)
    logs, _ = fused(
        lambda base, a: (base - 0.5 * a).masked_fill(a < a.topk(3).values[:, -1:], -INF),
        used, prompts_of(used), [97, 98, 99],
    )  # fmt: skip
    assert values(found, lambda t: t.chosen.log_prob) == near(chosen(logs, [97, 98, 99]))
    excluded = [token for token in found.tokens if token.chosen.log_prob == -INF]
    assert excluded, "three tokens of 270 are allowed"
    for token in excluded:
        assert token.chosen.contributions["top_k(a, 3)"] == -INF and token.rank == 4
        assert token.as_data()["chosen"]["log_prob"] is None
        assert math.isfinite(token.kl) and math.isfinite(token.entropy)
