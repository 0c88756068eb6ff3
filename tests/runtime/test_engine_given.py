"""What a formula asks of a run besides logits: early exits, running totals, tokens by text, guides."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Classifier, Engine, Formula, FormulaError, OperandError, RewardModel
from tests.runtime.guide_reference import PlainSequenceModel
from tests.runtime.reference import chosen, plain, raw
from tests.sequence_models import save_bert_classifier, save_llama_reward

PROMPTS = ["the rain in spain", "a", "Once upon a time there was another"]
SAMPLING: dict[str, Any] = {"max_new_tokens": 6, "seed": 3}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert_classifier(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_llama_reward(tmp_path_factory.mktemp("reward"))


def steps(model: str, prompt: str, tokens: list[int]) -> Iterator[tuple[list[int], Tensor, int]]:
    """For each token of a text those before it, the model's log-probabilities for it, and the token."""
    reference = plain(model)
    ids = reference.raw(prompt)
    log_probs = reference.log_probs([*ids, *tokens[:-1]], len(tokens))
    for number, token in enumerate(tokens):
        yield tokens[:number], log_probs[number], token


def check_both_ways(engine: Engine, expected: Any, params: Any = None) -> None:
    """What the engine writes has the log-probabilities that `expected(prompt, tokens)` tells, and so it has
    when it is scored, and so has the token behind it."""
    results = engine.generate(PROMPTS, params=params, **SAMPLING)
    scores = engine.score(PROMPTS, [one.token_ids for one in results], params=params)
    behind = engine.logprobs(PROMPTS, [one.token_ids[:-1] for one in results], params=params)
    for prompt, result, score, last in zip(PROMPTS, results, scores, behind, strict=True):
        rows = expected(prompt, result.token_ids)
        figures = chosen(rows, result.token_ids)
        assert result.logprobs["formula"] == pytest.approx(figures, abs=1e-4)
        assert score.logprobs["formula"] == pytest.approx(figures, abs=1e-4)
        torch.testing.assert_close(last, rows[-1], atol=1e-4, rtol=0)


def test_an_early_exit_is_that_of_the_same_forward(tiny_llama: str) -> None:
    engine = Engine(Formula("base - 0.5*layer(base, 1) + 0*layer(base, 0)", base=raw(tiny_llama)))
    model = plain(tiny_llama).model

    @torch.inference_mode()
    def expected(prompt: str, tokens: list[int]) -> Tensor:
        ids = [*plain(tiny_llama).raw(prompt), *tokens[:-1]]
        found = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        early = model.lm_head(model.model.norm(found.hidden_states[1]))
        late, early = (one[0, -len(tokens) :].log_softmax(-1) for one in (found.logits, early))
        return torch.as_tensor(late - 0.5 * early).log_softmax(-1)

    check_both_ways(engine, expected)
    engine.stats.reset()
    engine.generate("a", max_new_tokens=4, seed=1)
    assert engine.stats.forwards == 4


def test_a_running_total_adds_up_an_operands_log_probabilities(
    tiny_llama: str, tiny_llama_other: str
) -> None:
    formula = Formula("base + w*log_likelihood(arm)*arm", base=raw(tiny_llama), arm=raw(tiny_llama_other))

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        rows, total = [], 0.0
        arm_steps = list(steps(tiny_llama_other, prompt, tokens))
        for (_, base, _), (_, arm, token) in zip(steps(tiny_llama, prompt, tokens), arm_steps, strict=True):
            rows.append((base + 0.02 * total * arm).log_softmax(-1))
            total += float(arm[token])
        return torch.stack(rows)

    check_both_ways(Engine(formula), expected, params={"w": 0.02})


def test_positions_are_those_of_the_row(tiny_llama: str, tiny_llama_other: str) -> None:
    operands = {"base": raw(tiny_llama), "arm": LLM(tiny_llama_other, template="Long: {prompt}")}

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        length = len(plain(tiny_llama).raw(prompt))
        arm = list(steps(tiny_llama_other, f"Long: {prompt}", tokens))
        weights = [0.01 * length + 0.1 * t for t in range(len(tokens))]
        base = steps(tiny_llama, prompt, tokens)
        return torch.stack(
            [(b + w * a).log_softmax(-1) for (_, b, _), (_, a, _), w in zip(base, arm, weights, strict=True)]
        )

    check_both_ways(Engine(Formula("base + (0.01*prompt_length + 0.1*t)*arm", **operands)), expected)


def test_tokens_by_their_texts_are_those_of_the_tokenizer(tiny_llama: str) -> None:
    engine = Engine(
        Formula('within(base, matching("[a-z]|</s>")) - 9*tokens("e", 120)', base=raw(tiny_llama))
    )
    results = engine.generate(PROMPTS, num_return_sequences=4, **SAMPLING)
    texts = "".join(one.text for one in results)
    assert re.fullmatch("[a-z]*", texts) and not set(texts) & {"e", "x"}
    for text, message in {
        'base - tokens("nonsense")': 'no token of the vocabulary is "nonsense"',
        "base - tokens(270)": "there is no token 270: the vocabulary has 270",
    }.items():
        with pytest.raises(FormulaError, match=message):
            Engine(Formula(text, base=raw(tiny_llama)))


def naive_guidance(
    value: Any, log_probs: Tensor, before: list[int], k: int, decode: Any
) -> tuple[Tensor, float]:
    """Each candidate's text valued by itself, and that of the text without."""
    without = value(decode(before))
    guidance = torch.full_like(log_probs, without)
    for token in log_probs.topk(k).indices.tolist():
        guidance[token] = value(decode([*before, token]))
    return guidance, without


def test_a_classifier_guides_as_if_each_candidate_were_classified_alone(
    tiny_llama: str, classifier: str
) -> None:
    base = raw(tiny_llama)
    formal = Classifier(classifier, "formal", template="{prompt} {text}")
    model = PlainSequenceModel(classifier)
    formula = Formula(
        "base + w*guide(formal, on=base, k=7) - strength(formal)*guide(formal, on=base, k=3, bayes=false)",
        base=base,
        formal=formal,
    )

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        def value(text: str) -> float:
            return float(model.of_text(f"{prompt} {text}").log_softmax(-1)[0])

        decode = partial(plain(tiny_llama).tokenizer.decode, skip_special_tokens=True)
        rows = []
        for before, log_probs, _ in steps(tiny_llama, prompt, tokens):
            seven, without = naive_guidance(value, log_probs, before, 7, decode)
            three, _ = naive_guidance(value, log_probs, before, 3, decode)
            strength = torch.tensor(without).exp()
            rows.append((log_probs + 2 * (seven - without) - strength * three).log_softmax(-1))
        return torch.stack(rows)

    check_both_ways(Engine(formula), expected, params={"w": 2})


def test_a_reward_model_guides_with_its_cache_as_without(tiny_llama: str, reward: str) -> None:
    formula = Formula(
        "base + 0.7*guide(r, on=base, k=5, bayes=false, restrict=true)",
        base=raw(tiny_llama),
        r=RewardModel(reward, template="{prompt}{text}"),
    )
    model = PlainSequenceModel(reward)

    def expected(prompt: str, tokens: list[int]) -> Tensor:
        start = model.tokenizer(prompt).input_ids
        rows = []
        for before, log_probs, _ in steps(tiny_llama, prompt, tokens):
            row = torch.full_like(log_probs, -torch.inf)
            for token in log_probs.topk(5).indices.tolist():
                spoken = [one for one in (*before, token) if not 256 <= one < 262]
                row[token] = log_probs[token] + 0.7 * float(model.of_tokens([*start, *spoken])[0])
            rows.append(row.log_softmax(-1))
        return torch.stack(rows)

    engine = Engine(formula)
    assert not engine.notes
    check_both_ways(engine, expected)


def test_a_guide_of_weight_0_reads_nothing(tiny_llama: str, classifier: str) -> None:
    formula = Formula(
        "base + w*guide(f, on=base, k=5)", base=raw(tiny_llama), f=Classifier(classifier, "formal")
    )
    engine = Engine(formula)
    alone = Engine(raw(tiny_llama)).generate(PROMPTS, **SAMPLING)
    guided = engine.generate(PROMPTS, params=[{"w": 0}, {"w": 3}, {"w": 0}], **SAMPLING)
    assert guided[0].token_ids == alone[0].token_ids and guided[2].token_ids == alone[2].token_ids


def test_rows_are_guided_the_same_alone_and_among_others(
    tiny_llama: str, classifier: str, reward: str
) -> None:
    formula = Formula(
        "base + 2*guide(f, on=base, k=5) + guide(r, on=base, k=5)",
        base=raw(tiny_llama),
        f=Classifier(classifier, "rude"),
        r=RewardModel(reward, template="{prompt}{text}"),
    )
    engine = Engine(formula, max_rows=2)
    together = engine.generate(PROMPTS, **SAMPLING)
    for prompt, result in zip(PROMPTS, together, strict=True):
        assert engine.generate([prompt], **SAMPLING)[0].token_ids == result.token_ids


def test_what_a_model_lacks_is_said_before_it_is_loaded(
    tiny_llama: str, classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("arith.runtime.models.load_model", fail)
    base = raw(tiny_llama)
    with pytest.raises(OperandError, match=r"`layer\(base, 9\)`: .* has 2 layers"):
        Engine(Formula("base - layer(base, 9)", base=base))
    with pytest.raises(OperandError, match="its labels are formal, casual, rude"):
        Engine(Formula("base + guide(f, base, 5)", base=base, f=Classifier(classifier, "polite")))
    with pytest.raises(FormulaError, match=r"has to be a (dist|classifier)"):
        Engine(Formula("base + guide(f, base, 5)", base=base, f=base))


def test_the_plan_counts_guides(tiny_llama: str, classifier: str) -> None:
    formula = Formula(
        "base + guide(f, base, 5) + guide(g, base, 5)",
        base=raw(tiny_llama),
        f=Classifier(classifier, "formal"),
        g=Classifier(classifier, "rude"),
    )
    text = str(Engine(formula).plan)
    assert f"guide f, g: {classifier} on cpu (float32, weights" in text
