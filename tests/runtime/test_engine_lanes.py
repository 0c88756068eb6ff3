"""What runs for a row, counted and checked: forwards a step, shared prefixes, weight 0, adapters."""

import math

import pytest

from arith import LLM, Engine, Formula
from tests.runtime.reference import chosen, fused, plain, raw

PROMPTS = ["the rain in spain", "a", "Once upon a time"]


def test_a_step_is_one_forward_of_each_backbone(
    tiny_llama: str, tiny_llama_other: str, lora_a: str, lora_b: str
) -> None:
    arms = {"arm1": raw(tiny_llama, lora_a), "arm2": raw(tiny_llama, lora_b)}
    persona = LLM(tiny_llama, template="You: {prompt}")
    one = Engine(
        Formula("base + 0.4*arm1 - 0.3*arm2 + 0.1*persona", base=raw(tiny_llama), persona=persona, **arms)
    )
    two = Engine(
        Formula(
            "base + 0.4*arm1 - 0.3*other",
            base=raw(tiny_llama),
            arm1=arms["arm1"],
            other=raw(tiny_llama_other),
        )
    )
    for engine, backbones, lanes in ((one, 1, 4), (two, 2, 3)):
        assert len(engine.stats) == backbones
        engine.generate(PROMPTS, max_new_tokens=1, do_sample=False)
        prefill, tokens = engine.stats.forwards, engine.stats.tokens_run
        engine.stats.reset()
        assert engine.stats.forwards == engine.stats.tokens_run == 0
        found = engine.generate(PROMPTS, max_new_tokens=6, do_sample=False)
        assert [len(result.token_ids) for result in found] == [6, 6, 6]
        assert engine.stats.forwards == prefill + 5 * backbones
        assert engine.stats.tokens_run == tokens + 5 * 3 * lanes
        assert sum(stats.forwards for stats in engine.stats.values()) == engine.stats.forwards


def test_equal_prompts_are_prefilled_once(tiny_llama: str, lora_a: str) -> None:
    engine = Engine(Formula("a + w*b", a=raw(tiny_llama), b=raw(tiny_llama, lora_a)))
    length = len(plain(tiny_llama).raw(PROMPTS[0]))
    params = [{"w": 0.1 * point} for point in range(1, 6)]
    engine.generate([PROMPTS[0]] * 5, params=params, num_return_sequences=3, max_new_tokens=1)
    assert engine.stats.tokens_useful == 2 * length, "once for each adapter"
    assert engine.stats.tokens_run <= 2.1 * length


def test_rows_that_enter_later_find_the_prefix_again(tiny_llama: str) -> None:
    engine = Engine(raw(tiny_llama), max_rows=2)
    prompt = "x" * 40
    engine.generate(prompt, num_return_sequences=5, max_new_tokens=1)
    assert engine.stats.tokens_useful == 41 + 2, "41 tokens once, and their last one for each later wave"


def test_what_prompts_have_in_common_is_prefilled_once(tiny_llama: str) -> None:
    engine = Engine(LLM(tiny_llama, template="x" * 40 + "{prompt}"))
    reference = plain(tiny_llama)
    found = engine.generate(["1", "23", "456"], max_new_tokens=8, do_sample=False)
    for result, prompt in zip(found, ["1", "23", "456"], strict=True):
        assert result.token_ids == reference.greedy(reference.raw("x" * 40 + prompt), 8)
    engine.stats.reset()
    engine.generate(["1", "23", "456"], max_new_tokens=1)
    assert engine.stats.tokens_useful == 41 + 1 + 2 + 3


def test_an_operand_of_weight_0_does_not_run(tiny_llama: str, tiny_llama_other: str, lora_a: str) -> None:
    a, b, c = raw(tiny_llama), raw(tiny_llama, lora_a), raw(tiny_llama_other)
    whole = Engine(Formula("a + v*b + (w - 1)*c", a=a, b=b, c=c))
    part = Engine(Formula("a + v*b", a=a, b=b))
    found = whole.generate(PROMPTS, params={"v": 0.5, "w": 1}, max_new_tokens=8)
    expected = part.generate(PROMPTS, params={"v": 0.5}, max_new_tokens=8)
    for one, other in zip(found, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert all(math.isnan(value) for value in one.logprobs["c"]) and len(one.logprobs["c"]) == 8
        for name in ("formula", "a", "b"):
            assert one.logprobs[name] == pytest.approx(other.logprobs[name], abs=1e-5)
    assert [stats.forwards for stats in whole.stats.values()] == [whole.stats.forwards, 0]
    assert whole.stats.tokens_run == part.stats.tokens_run
    scored = whole.score(PROMPTS, ["on"] * 3, params={"v": 0, "w": 1})
    assert [stats.forwards for stats in whole.stats.values()][1] == 0
    assert all(math.isnan(score.totals["c"]) and math.isnan(score.totals["b"]) for score in scored)
    assert all(score.total == pytest.approx(score.totals["a"]) for score in scored)


def test_an_operand_runs_for_those_rows_that_need_it(tiny_llama: str, tiny_llama_other: str) -> None:
    operands = {"a": raw(tiny_llama), "b": raw(tiny_llama_other)}
    engine = Engine(Formula("a + w*b", **operands))
    params = [{"w": 0.0}, {"w": 0.8}, {"w": 0.0}]
    found = engine.generate(PROMPTS, params=params, max_new_tokens=6, do_sample=False)
    of_b = [stats.tokens_run for stats in engine.stats.values()][1]
    assert of_b == len(plain(tiny_llama).raw(PROMPTS[1])) + 5
    for result, point in zip(found, params, strict=True):
        ids = plain(tiny_llama).raw(PROMPTS[result.index])
        logs, _ = fused(lambda a, b, w: a + w * b, operands, {"a": ids, "b": ids}, result.token_ids, **point)
        assert result.token_ids == logs.argmax(-1).tolist()
        assert result.logprobs["formula"] == pytest.approx(chosen(logs, result.token_ids), abs=1e-4)
        assert math.isnan(result.logprobs["b"][0]) == (point["w"] == 0)


def test_equal_operands_under_two_names_run_once(tiny_llama: str, lora_a: str) -> None:
    engine = Engine(Formula("max(a, b) + c", a=raw(tiny_llama), b=raw(tiny_llama), c=raw(tiny_llama, lora_a)))
    found = engine.generate(PROMPTS, max_new_tokens=5)
    assert all(result.logprobs["a"] == result.logprobs["b"] for result in found)
    prompts = sum(len(plain(tiny_llama).raw(prompt)) for prompt in PROMPTS)
    assert engine.stats.tokens_useful == 2 * (prompts + 3 * 4)


@pytest.mark.parametrize("adapter", ["lora_dora", "lora_modules_to_save"])
def test_adapters_that_cannot_be_mixed_run_apart(
    adapter: str, tiny_llama: str, lora_a: str, request: pytest.FixtureRequest
) -> None:
    operands = {
        "a": raw(tiny_llama),
        "b": raw(tiny_llama, request.getfixturevalue(adapter)),
        "c": raw(tiny_llama, lora_a),
    }
    engine = Engine(Formula("a + 0.8*b - 0.5*c", **operands))
    assert len(engine.stats) == len(engine.plan.backbones) == 2
    found = engine.generate(PROMPTS, max_new_tokens=8, seed=4)
    for result in found:
        ids = plain(tiny_llama).raw(PROMPTS[result.index])
        logs, single = fused(
            lambda a, b, c: a + 0.8 * b - 0.5 * c, operands, dict.fromkeys(operands, ids), result.token_ids
        )
        assert result.logprobs["formula"] == pytest.approx(chosen(logs, result.token_ids), abs=1e-4)
        for name in operands:
            assert result.logprobs[name] == pytest.approx(chosen(single[name], result.token_ids), abs=1e-4)
    assert all(stats.forwards > 7 for stats in engine.stats.values())


def test_vocabularies_of_other_sizes_are_cut_to_the_common_part(
    tiny_llama: str, tiny_llama_padded: str
) -> None:
    operands = {"a": raw(tiny_llama), "b": raw(tiny_llama_padded)}
    engine = Engine(Formula("a + 0.5*b", **operands))
    assert engine.logprobs("on", "").shape == (1, 270)
    assert len(engine.notes) == 1 and "`b`" in engine.notes[0]
    ids = plain(tiny_llama).raw("on")
    cut = [plain(one.model).log_probs(ids, 1)[0, :270].log_softmax(-1) for one in operands.values()]
    expected = (cut[0] + 0.5 * cut[1]).log_softmax(-1)
    assert (engine.logprobs("on", "")[0] - expected).abs().max() < 1e-4
    found = engine.generate("on", max_new_tokens=1)[0]
    assert found.logprobs["b"] == pytest.approx([float(cut[1][found.token_ids[0]])], abs=1e-4)
