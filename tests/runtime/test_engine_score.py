"""Likelihoods of given text against the same formula in plain torch over plain forwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Engine, Formula, OptionError, PlanError, PromptError
from arith.runtime.fusion import Fusion
from tests.runtime.reference import chosen, fused, plain, raw

PROMPTS = ["the rain in spain", "a", "Once upon a time there was another"]
COMPLETIONS = [" falls on the plain", "re", " inner ring, then none"]


@pytest.fixture(scope="module")
def operands(tiny_llama: str, tiny_llama_other: str, lora_a: str, lora_b: str) -> dict[str, LLM]:
    """Bare base, two adapters of it (one under a prompt of its own), and another model."""
    return {
        "base": raw(tiny_llama),
        "a": raw(tiny_llama, lora_a),
        "b": LLM(tiny_llama, adapter=lora_b, template="Say: {prompt}\nNow:"),
        "other": raw(tiny_llama_other),
    }


def prompts_of(operands: dict[str, LLM], prompt: str) -> dict[str, list[int]]:
    return {
        name: plain(one.model).raw(prompt if one.template == "raw" else f"Say: {prompt}\nNow:")
        for name, one in operands.items()
    }


def ids_of(model: str, text: str) -> list[int]:
    return list(plain(model).tokenizer(text, add_special_tokens=False).input_ids)


def nucleus(log_probs: Tensor, p: float) -> Tensor:
    """Which tokens belong to the smallest set of probability p, by a sort."""
    ranked, order = log_probs.softmax(-1).sort(-1, descending=True)
    inside = ranked.cumsum(-1) - ranked < p
    return torch.zeros_like(inside).scatter(-1, order, inside)


def within_nucleus(base: Tensor, a: Tensor, other: Tensor) -> Tensor:
    return (a - 0.5 * other).masked_fill(~nucleus(base, 0.999), -torch.inf)


def guided_by_entropy(base: Tensor, b: Tensor) -> Tensor:
    entropy = -(base.exp() * base).sum(-1, keepdim=True)
    return base + 0.3 * entropy * b


def switching(base: Tensor, a: Tensor, w: float) -> Tensor:
    step = torch.arange(len(base))[:, None]
    return torch.where(step < 3, base + w * a, a / (1 + 0.5 * step))


CASES: list[tuple[str, Callable[..., Tensor], dict[str, float]]] = [
    ("base + 0.5*a - 0.4*b", lambda base, a, b: base + 0.5 * a - 0.4 * b, {}),
    ("base + w*other", lambda base, other, w: base + w * other, {"w": -0.7}),
    ("max(base, a - 0.5*b)", lambda base, a, b: torch.maximum(base, a - 0.5 * b), {}),
    ("min(2*base, other)", lambda base, other: torch.minimum(2 * base, other), {}),
    ("within(a - 0.5*other, top_p(base, 0.999))", within_nucleus, {}),
    ("base + 0.3*entropy(base)*b", guided_by_entropy, {}),
    ("log(0.5*p(base) + 0.5*p(a))", lambda base, a: (0.5 * base.exp() + 0.5 * a.exp()).log(), {}),
    ("where(t < 3, base + w*a, temper(a, 1 + 0.5*t))", switching, {"w": 0.6}),
]


@pytest.mark.parametrize(("text", "combine", "params"), CASES, ids=[case[0] for case in CASES])
def test_scores_and_logprobs_equal_a_plain_recomputation(
    text: str, combine: Callable[..., Tensor], params: dict[str, float], operands: dict[str, LLM]
) -> None:
    used = {name: operands[name] for name in Formula(text).operands}
    engine = Engine(Formula(text, **used))
    scores = engine.score(PROMPTS, COMPLETIONS, params=params)
    following = engine.logprobs(PROMPTS, COMPLETIONS, params=params)
    assert following.shape == (3, 270)
    for prompt, completion, score, behind in zip(PROMPTS, COMPLETIONS, scores, following, strict=True):
        tokens = ids_of(used[next(iter(used))].model, completion)
        assert score.token_ids == tokens
        # One more token, whichever, so that the last position tells what comes behind the completion.
        logs, single = fused(combine, used, prompts_of(used, prompt), [*tokens, 0], **params)
        assert score.logprobs["formula"] == pytest.approx(chosen(logs, tokens), abs=1e-4)
        assert score.total == pytest.approx(sum(chosen(logs, tokens)), abs=1e-4 * len(tokens))
        for name in used:
            expected = chosen(single[name], tokens)
            assert score.logprobs[name] == pytest.approx(expected, abs=1e-4)
            assert score.totals[name] == pytest.approx(sum(expected), abs=1e-4 * len(tokens))
        torch.testing.assert_close(behind, logs[-1], atol=1e-4, rtol=1e-4)
        assert float(behind.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_all_lanes_of_one_model_are_scored_in_one_pass(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base + 0.5*a - 0.4*b", **{name: operands[name] for name in ("base", "a", "b")}))
    engine.score("x" * 30, "y" * 20)
    prompt = len(prompts_of(operands, "x" * 30)["b"])
    assert engine.stats.tokens_useful == 2 * (31 + 19) + prompt + 19
    assert engine.stats.forwards <= 2, "two lengths, so at most two forwards"


@pytest.mark.parametrize("text", ["base + 0.5*a - 0.4*b", "where(t < 3, base + w*a, temper(a, 1 + 0.5*t))"])
def test_generated_tokens_score_what_generate_reported(text: str, operands: dict[str, LLM]) -> None:
    used = {name: operands[name] for name in Formula(text).operands}
    engine = Engine(Formula(text, **used))
    params: Any = [{"w": 0.1 * number} for number in range(3)] if "w" in engine.formula.parameters else None
    found = engine.generate(PROMPTS, params=params, max_new_tokens=20, temperature=0.8, top_k=30)
    scores = engine.score(PROMPTS, [result.token_ids for result in found], params=params)
    for result, score in zip(found, scores, strict=True):
        assert score.token_ids == result.token_ids
        assert list(score.logprobs) == list(result.logprobs)
        for name, values in result.logprobs.items():
            assert score.logprobs[name] == pytest.approx(values, abs=1e-4, nan_ok=True)


def test_logprobs_rank_what_greedy_generation_chooses(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base - 0.4*b", base=operands["base"], b=operands["b"]))
    found = engine.generate(PROMPTS, max_new_tokens=6, do_sample=False)
    for count in (0, 1, 5):
        following = engine.logprobs(PROMPTS, [result.token_ids[:count] for result in found])
        assert following.argmax(-1).tolist() == [result.token_ids[count] for result in found]


def test_the_end_is_the_token_that_closes_the_turn(tiny_llama: str, tiny_gpt2: str) -> None:
    for operand, end in ((LLM(tiny_llama, system="Be kind."), "</s>"), (raw(tiny_gpt2), "</s>")):
        engine = Engine(operand)
        ends = plain(operand.model).tokenizer.convert_tokens_to_ids(end)
        open_ended, closed = (engine.score("hi", " on", end=choice)[0] for choice in (False, True))
        assert closed.token_ids == [*open_ended.token_ids, ends]
        assert closed.logprobs["formula"][:-1] == pytest.approx(open_ended.logprobs["formula"], abs=1e-5)
        behind = engine.logprobs("hi", " on")
        assert closed.logprobs["formula"][-1] == pytest.approx(float(behind[0, ends]), abs=1e-5)


def test_completions_are_texts_or_token_ids(operands: dict[str, LLM]) -> None:
    engine = Engine(operands["base"])
    ids = ids_of(operands["base"].model, " then")
    expected = engine.score("on", " then")[0]
    assert expected.token_ids == ids
    for form in (" then", [" then"], [ids], [tuple(ids)], [torch.tensor(ids)]):
        assert engine.score("on", form)[0].logprobs == expected.logprobs
    assert torch.equal(engine.logprobs("on", " then"), engine.logprobs("on", [ids]))
    mixed = engine.score(["on", "on"], [" then", ids])
    assert mixed[0].logprobs == mixed[1].logprobs


def test_an_empty_completion_has_likelihood_one(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base + 0.5*a", base=operands["base"], a=operands["a"]))
    empty, other = engine.score(["on", "on"], ["", "re"])
    assert (empty.token_ids, empty.total) == ([], 0)
    assert empty.logprobs == {"formula": [], "base": [], "a": []}
    assert len(other.token_ids) > 0 and other.total < 0
    closed = engine.score("on", "", end=True)[0]
    assert closed.token_ids == [257]
    assert closed.total == pytest.approx(float(engine.logprobs("on", "")[0, 257]), abs=1e-5)
    assert engine.score([], []) == [] and engine.logprobs([], []).shape == (0, 270)


def test_long_texts_are_scored_whole(operands: dict[str, LLM]) -> None:
    """200 tokens are more than are evaluated together; the formula depends on the position."""
    used = {"base": operands["base"], "a": operands["a"]}
    engine = Engine(Formula("base + 0.01*t*a", **used))
    tokens = [32 + (7 * number * number) % 90 for number in range(200)]
    texts = [tokens, tokens[:64], tokens[:65], tokens[:1]]
    prompt = prompts_of(used, "on")
    step = torch.arange(200)[:, None]
    logs, single = fused(lambda base, a: base + 0.01 * step * a, used, prompt, tokens)
    for text, score in zip(texts, engine.score(["on"] * 4, texts), strict=True):
        assert score.logprobs["formula"] == pytest.approx(chosen(logs, text), abs=2e-4)
        assert score.logprobs["a"] == pytest.approx(chosen(single["a"], text), abs=1e-4)
    behind = engine.logprobs("on", [tokens[:199]])
    torch.testing.assert_close(behind[0], logs[199], atol=2e-4, rtol=1e-4)


def test_few_rows_at_once_change_no_score(operands: dict[str, LLM]) -> None:
    formula = Formula("base + 0.5*a", base=operands["base"], a=operands["a"])
    prompts, texts = PROMPTS * 2, [*COMPLETIONS, "", "x", "on and on"]
    one_by_one, together = (Engine(formula, max_rows=rows).score(prompts, texts) for rows in (1, 6))
    for one, other in zip(one_by_one, together, strict=True):
        assert one.logprobs["formula"] == pytest.approx(other.logprobs["formula"], abs=1e-5)


def test_memory_that_gives_out_when_texts_are_judged_costs_no_score(
    operands: dict[str, LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(Formula("base + 0.5*a", base=operands["base"], a=operands["a"]))
    expected, following = engine.score(PROMPTS, COMPLETIONS), engine.logprobs(PROMPTS, COMPLETIONS)
    attempt, calls, lost = Fusion.attempt, list[int](), {2, 4}

    def failing(self: Fusion, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) in lost:
            raise torch.OutOfMemoryError("the test's memory is full")
        return attempt(self, *arguments)

    monkeypatch.setattr(Fusion, "attempt", failing)
    found = engine.score(PROMPTS, COMPLETIONS)
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs["formula"] == pytest.approx(other.logprobs["formula"], abs=1e-5)
    calls.clear()
    torch.testing.assert_close(engine.logprobs(PROMPTS, COMPLETIONS), following, rtol=1e-5, atol=1e-5)
    lost.update(range(1, 100))
    with pytest.raises(PlanError, match="there is not enough memory for row 1"):
        engine.score(PROMPTS, COMPLETIONS)


def test_each_prompt_may_have_its_own_parameters(operands: dict[str, LLM]) -> None:
    engine = Engine(Formula("base + w*a", base=operands["base"], a=operands["a"]))
    params = [{"w": 0.0}, {"w": 1.5}, {"w": -1.0}]
    together = engine.score(PROMPTS, COMPLETIONS, params=params)
    for prompt, completion, point, score in zip(PROMPTS, COMPLETIONS, params, together, strict=True):
        alone = engine.score(prompt, completion, params=point)[0]
        assert score.logprobs["formula"] == pytest.approx(alone.logprobs["formula"], abs=1e-5)
    assert together[0].total == pytest.approx(together[0].totals["base"], abs=1e-5)


def test_a_text_that_may_not_be_scored_is_refused(
    operands: dict[str, LLM], new_llama: Callable[..., str]
) -> None:
    engine = Engine(operands["base"])
    with pytest.raises(OptionError, match="2 prompts and 1 text"):
        engine.score(["a", "b"], ["c"])
    with pytest.raises(OptionError, match="token 270 of text 2"):
        engine.score(["a", "b"], [[1, 2], [1, 270]])
    with pytest.raises(OptionError, match="text 1"):
        engine.score("a", [5])
    short = Engine(raw(new_llama("tiny_window_scored", seed=23, max_position_embeddings=24)))
    # The prompt is 2 tokens; the last token of a completion is predicted and need not run.
    assert len(short.score("x", [[120] * 23])[0].token_ids) == 23
    assert short.logprobs("x", [[120] * 22]).shape == (1, 270)
    for call, count in ((short.score, 24), (short.logprobs, 23)):
        with pytest.raises(PromptError, match=r"prompt 1.*window is 24"):
            call("x", [[120] * count])


def test_log_probabilities_are_the_callers_to_change(operands: dict[str, LLM]) -> None:
    found = Engine(operands["base"]).logprobs("on", "")
    found[0, 0] = 0.0
    assert not found.is_inference() and found.dtype == torch.float32
