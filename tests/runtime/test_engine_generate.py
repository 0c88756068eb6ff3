"""Which tokens an engine writes: transformers' own for one operand, and the same in any company."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StoppingCriteria

from arith import LLM, Engine, Formula, OperandError, OptionError, PromptError
from arith.runtime.result import Result
from tests.runtime.reference import chosen, fused, plain, raw

PROMPTS = ["the rain in spain", "a", "Once upon a time there was another inner ring", "12 + 30 =", "on"]


class EndsAtFive(StoppingCriteria):
    """Ends a row at a token whose id five divides, so rows leave at times of their own."""

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return input_ids[:, -1] % 5 == 0


@pytest.fixture(scope="module")
def single(tiny_llama: str) -> Engine:
    return Engine(raw(tiny_llama), max_rows=8)


def tokens_of(results: list[Result]) -> list[list[int]]:
    return [result.token_ids for result in results]


def test_greedy_equals_generate_for_one_prompt(tiny_llama: str, single: Engine) -> None:
    reference = plain(tiny_llama)
    expected = reference.greedy(reference.raw(PROMPTS[0]), 40)
    assert tokens_of(single.generate(PROMPTS[0], max_new_tokens=40, temperature=0)) == [expected]
    assert tokens_of(single.generate(PROMPTS[0], max_new_tokens=40, do_sample=False)) == [expected]


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding", "tiny_mamba"])
def test_greedy_equals_generate_for_a_ragged_batch(model: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    reference = plain(path)
    expected = [reference.greedy(reference.raw(prompt), 24) for prompt in PROMPTS]
    engine = Engine(raw(path), max_rows=3)
    assert tokens_of(engine.generate(PROMPTS, max_new_tokens=24, do_sample=False)) == expected
    notes = "".join(engine.notes)
    assert ("recurrent state" in notes) == (model == "tiny_mamba"), "the slower path is said to be one"


def test_a_repetition_penalty_works_on_log_probabilities(tiny_llama: str, single: Engine) -> None:
    """A log-probability is never positive, so the penalty multiplies those of the tokens already there."""
    reference = plain(tiny_llama)
    tokens = reference.raw(PROMPTS[0])
    start = len(tokens)
    for _ in range(16):
        scores = reference.log_probs(tokens, 1)[0]
        factors = torch.ones_like(scores)
        factors[sorted(set(tokens))] = 1.7
        tokens.append(int((scores * factors).argmax()))
    found = single.generate(PROMPTS[0], max_new_tokens=16, do_sample=False, repetition_penalty=1.7)
    assert found[0].token_ids == tokens[start:]
    assert tokens[start:] != reference.greedy(tokens[:start], 16), "the penalty changes something"


FORMULAS = [
    "a + 0.7*b - 0.4*base",
    "max(a, b - base)",
    "top_p(a, 0.9) + 0.5*b",
    "where(p(base) > 0.01, a + alpha*b, temper(base, 2))",
    "where(t < 3, a - b, b + 0.3*t*base)",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_row_is_the_same_alone_and_among_others(
    text: str, tiny_llama: str, lora_a: str, lora_b: str
) -> None:
    every = {"a": raw(tiny_llama, lora_a), "b": raw(tiny_llama, lora_b), "base": raw(tiny_llama)}
    formula = Formula(text, **{name: every[name] for name in Formula(text).operands})
    params = {"alpha": -0.6} if "alpha" in text else None
    options = {
        "max_new_tokens": 12, "seed": 5, "num_return_sequences": 2, "temperature": 1.3, "top_k": 40,
        "stopping_criteria": [EndsAtFive()], "params": params,
    }  # fmt: skip
    few, engine = Engine(formula, max_rows=2), Engine(formula)
    together = few.generate(PROMPTS, **options)
    assert [(one.index, one.sample) for one in together] == [(i, s) for i in range(5) for s in range(2)]
    assert len({len(one.token_ids) for one in together}) > 2, "rows leave at different times"
    alone = [result for prompt in PROMPTS for result in engine.generate(prompt, **options)]
    assert tokens_of(together) == tokens_of(alone)
    for one, other in zip(together, alone, strict=True):
        for name, values in one.logprobs.items():
            assert values == pytest.approx(other.logprobs[name], abs=1e-4)


def test_a_call_repeats_itself_and_another_seed_does_not(single: Engine) -> None:
    first = tokens_of(single.generate(PROMPTS, max_new_tokens=10, seed=3))
    assert tokens_of(single.generate(PROMPTS, max_new_tokens=10, seed=3)) == first
    assert tokens_of(single.generate(PROMPTS, max_new_tokens=10, seed=4)) != first
    assert tokens_of(single.generate(list(reversed(PROMPTS)), max_new_tokens=10, seed=3)) == first[::-1]


def test_samples_and_repeated_prompts_differ(single: Engine) -> None:
    found = single.generate([PROMPTS[0]] * 3, max_new_tokens=10, num_return_sequences=3)
    assert len({tuple(tokens) for tokens in tokens_of(found)}) == 9
    first = single.generate(PROMPTS[0], max_new_tokens=10, num_return_sequences=3)
    assert tokens_of(first) == tokens_of(found[:3])


def test_the_points_of_a_sweep_share_their_random_numbers(tiny_llama: str, tiny_llama_other: str) -> None:
    engine = Engine(Formula("a + w*b", a=raw(tiny_llama), b=raw(tiny_llama_other)))
    points = [{"w": 0.0}, {"w": 1e-7}, {"w": 0.5}, {"w": -0.5}]
    sweep = [engine.generate(PROMPTS[0], max_new_tokens=8, params=point)[0].token_ids for point in points]
    assert sweep[0] == sweep[1], "a change of 1e-7 changes no draw that has the same random numbers"
    assert sweep[2] != sweep[0] and sweep[3] != sweep[0]
    mixed = engine.generate(PROMPTS[:4], max_new_tokens=8, params=points)
    for prompt, point, result in zip(PROMPTS, points, mixed, strict=False):
        assert result.token_ids == engine.generate(prompt, max_new_tokens=8, params=point)[0].token_ids


def test_draws_follow_the_formula(tiny_llama: str, lora_a: str) -> None:
    """Pearson's statistic of 3,000 first tokens against the formula's warped distribution, by plain torch.

    Its mean is 7 with 7 degrees of freedom, and a fair sampler exceeds 29.9 once in 10,000 seeds.
    """
    operands = {"a": raw(tiny_llama), "b": raw(tiny_llama, lora_a)}
    prompt = plain(tiny_llama).raw(PROMPTS[0])
    logs, _ = fused(lambda a, b: a - 0.3 * b, operands, {"a": prompt, "b": prompt}, [0])
    kept = (logs[0] / 1.5).topk(8)
    expected = 3000 * kept.values.softmax(-1)
    engine = Engine(Formula("a - 0.3*b", **operands), max_rows=500)
    drawn = Counter(
        result.token_ids[0]
        for result in engine.generate(
            PROMPTS[0], max_new_tokens=1, temperature=1.5, top_k=8, num_return_sequences=3000, seed=1
        )
    )
    assert set(drawn) <= set(kept.indices.tolist())
    counts = torch.tensor([drawn[token] for token in kept.indices.tolist()], dtype=torch.float32)
    assert float(((counts - expected).square() / expected).sum()) < 29.9


def test_reported_logprobs_are_the_formula_before_any_warper(
    tiny_llama: str, tiny_llama_other: str, lora_b: str
) -> None:
    operands = {"a": raw(tiny_llama), "b": raw(tiny_llama_other), "c": raw(tiny_llama, lora_b)}
    engine = Engine(Formula("a + w*b - 0.2*c", **operands))
    params = [{"w": 0.5}, {"w": -0.25}]
    found = engine.generate(
        PROMPTS[:2], params=params, max_new_tokens=9, temperature=0.7, top_k=20, top_p=0.9
    )
    for result, point in zip(found, params, strict=True):
        ids = plain(tiny_llama).raw(PROMPTS[result.index])
        logs, single = fused(
            lambda a, b, c, w: a + w * b - 0.2 * c,
            operands,
            dict.fromkeys(operands, ids),
            result.token_ids,
            **point,
        )
        assert list(result.logprobs) == ["formula", "a", "b", "c"]
        assert result.logprobs["formula"] == pytest.approx(chosen(logs, result.token_ids), abs=1e-4)
        for name in operands:
            assert result.logprobs[name] == pytest.approx(chosen(single[name], result.token_ids), abs=1e-4)


def test_unnamed_operands_are_numbered_in_order_of_first_use(tiny_llama: str, lora_a: str) -> None:
    base, arm = raw(tiny_llama), raw(tiny_llama, lora_a)
    written = Engine(base - 0.4 * arm).generate("on", max_new_tokens=4)[0]
    assert list(written.logprobs) == ["formula", "operand1", "operand2"]
    bound = Engine(Formula("base - 0.4*arm", base=base, arm=arm)).generate("on", max_new_tokens=4)[0]
    assert bound.token_ids == written.token_ids
    assert list(Engine(base).generate("on", max_new_tokens=1)[0].logprobs) == ["formula", "operand1"]


def test_every_form_of_one_prompt_gives_the_same_row(tiny_llama: str) -> None:
    engine = Engine(LLM(tiny_llama, system="Be kind."))
    forms: list[Any] = [
        "hello",
        ["hello"],
        {"prompt": "hello"},
        [{"prompt": "hello"}],
        [{"role": "user", "content": "hello"}],
        [[{"role": "user", "content": "hello"}]],
        {"prompt": [{"role": "user", "content": "hello"}]},
    ]
    reference = plain(tiny_llama)
    ids = reference.tokenizer(
        "<s><|system|>Be kind.</s><|user|>hello</s><|assistant|>", add_special_tokens=False
    ).input_ids
    expected = reference.greedy(ids, 8)
    for form in forms:
        found = engine.generate(form, max_new_tokens=8, do_sample=False)
        assert tokens_of(found) == [expected]


def test_fields_of_a_prompt_reach_the_operands_that_use_them(tiny_llama: str) -> None:
    reader = LLM(tiny_llama, template="{context} {prompt}")
    guesser = LLM(tiny_llama, template="{prompt}")
    engine = Engine(Formula("reader - 0.5*guesser", reader=reader, guesser=guesser))
    found = engine.generate({"prompt": "who?", "context": "the rain"}, max_new_tokens=5)[0]
    reference = plain(tiny_llama)
    prompts = {"reader": reference.raw("the rain who?"), "guesser": reference.raw("who?")}
    operands = {"reader": reader, "guesser": guesser}
    logs, _ = fused(lambda reader, guesser: reader - 0.5 * guesser, operands, prompts, found.token_ids)
    assert found.logprobs["formula"] == pytest.approx(chosen(logs, found.token_ids), abs=1e-4)
    with pytest.raises(PromptError, match=r"prompt 2.*context"):
        engine.generate([{"prompt": "a", "context": "b"}, "no context"], max_new_tokens=1)


def test_no_prompts_give_no_results(single: Engine) -> None:
    assert single.generate([]) == []
    assert list(single.stream([])) == []
    assert list(single.as_completed([], params=[])) == []


def test_what_a_call_cannot_mean_is_refused(single: Engine, tiny_llama: str) -> None:
    wrong_options: list[dict[str, Any]] = [
        {"max_new_tokens": 0}, {"temperature": -1.0}, {"max_tokens": 5}, {"params": [{}, {}]}
    ]  # fmt: skip
    for wrong in wrong_options:
        with pytest.raises(OptionError):
            single.generate("a", **wrong)
    with pytest.raises(PromptError):
        single.generate(5)
    for wrong_rows in (0, -1, 1.5, True):
        with pytest.raises(OptionError, match="max_rows"):
            Engine(raw(tiny_llama), max_rows=wrong_rows)  # type: ignore[arg-type]


def test_the_device_given_is_the_device_used(tiny_llama: str, single: Engine) -> None:
    engine = Engine(raw(tiny_llama), device="cpu")
    assert engine.device == torch.device("cpu") and "cpu" in str(engine.plan)
    assert tokens_of(engine.generate("on", max_new_tokens=4)) == tokens_of(
        single.generate("on", max_new_tokens=4)
    )
    with pytest.raises(OperandError, match="isn't a device"):
        Engine(raw(tiny_llama), device="toaster")
