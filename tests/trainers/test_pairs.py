"""Contrast pairs in Python: each side is what its formula writes alone, though one engine writes both."""

import math
from typing import Any

import pytest

from arith import LLM, Classifier, Engine, Formula, FormulaError, OperandError, OptionError
from arith.runtime.result import FinishReason, Result
from trainers.pairs import Pair, contrast, contrast_pairs, with_system

PROMPTS = ["one", "two", "one", "three"]
OPTIONS: dict[str, Any] = {"max_new_tokens": 8}


def texts(formula: Any, prompts: list[str], **options: Any) -> list[str]:
    return [one.text for one in Engine(formula).generate(prompts, **{**OPTIONS, **options})]


def written(engine: Engine, **options: Any) -> dict[tuple[int, int], Pair]:
    found = list(contrast_pairs(engine, PROMPTS, **{**OPTIONS, **options}))
    by_place = {(pair.index, pair.sample): pair for pair in found}
    assert len(by_place) == len(found)
    return by_place


@pytest.fixture
def llm(tiny_llama: str) -> LLM:
    return LLM(tiny_llama, template="{prompt}")


@pytest.fixture
def other(tiny_llama_other: str) -> LLM:
    return LLM(tiny_llama_other, template="Q: {prompt}")


def test_each_side_is_what_its_formula_writes_alone(llm: LLM, other: LLM) -> None:
    a, b = {"a": llm}, {"b": other}
    sides = [
        (Formula("a", **a), Formula("b", **b)),
        (Formula("0.3*a + w*b", **a, **b, w=0.1), Formula("a - w*b", **a, **b, w=0.1)),
        (Formula("top_p(a, 0.5)", **a), Formula("log(p(b) - 0.5*p(a))", **a, **b)),
        (Formula("u = a + b\naverage(u)", **a, **b), Formula("u = a\nmax(u, b) - u", **a, **b)),
        (llm, with_system(LLM(llm.model), "Be brief.")),
    ]
    for chosen, rejected in sides:
        pairs = written(Engine(contrast(chosen, rejected)), do_sample=False)
        found = [pairs[index, 0] for index in range(len(PROMPTS))]
        assert [pair.chosen.text for pair in found] == texts(chosen, PROMPTS, do_sample=False)
        assert [pair.rejected.text for pair in found] == texts(rejected, PROMPTS, do_sample=False)


def test_sides_draw_numbers_of_their_own_which_later_prompts_do_not_change(llm: LLM, other: LLM) -> None:
    pairs = written(Engine(contrast(llm, other)), num_return_sequences=2, seed=3)
    assert set(pairs) == {(index, sample) for index in range(4) for sample in range(2)}
    # The two sides of a prompt count as two equal prompts, and those of the third as two more.
    alone = Engine(llm).generate(["one"] * 4, num_return_sequences=2, seed=3, **OPTIONS)
    worse = Engine(other).generate(["one"] * 4, num_return_sequences=2, seed=3, **OPTIONS)
    for sample in range(2):
        assert pairs[0, sample].chosen.text == alone[sample].text
        assert pairs[0, sample].rejected.text == worse[2 + sample].text
        assert pairs[2, sample].chosen.text == alone[4 + sample].text
        assert pairs[2, sample].rejected.text == worse[6 + sample].text


def test_wanted_pairs_are_those_of_a_run_of_all(llm: LLM, other: LLM) -> None:
    engine = Engine(contrast(llm, other))
    whole = written(engine, num_return_sequences=2)
    some = written(engine, num_return_sequences=2, wanted={(2, 1), (3, 0)})
    assert set(some) == {(2, 1), (3, 0)}
    for place, pair in some.items():
        assert (pair.chosen.text, pair.rejected.text) == (
            whole[place].chosen.text,
            whole[place].rejected.text,
        )
        assert pair.chosen.index == pair.rejected.index == pair.index


def test_both_sides_share_weights_and_forwards_and_run_only_what_is_theirs(llm: LLM) -> None:
    formula = contrast(Formula("base", base=llm), Formula("base", base=with_told(llm)))
    engine = Engine(formula)
    assert formula.operands == ("base", "base_rejected") and len(engine.plan.backbones) == 1
    pairs = written(engine, do_sample=False)
    sides = [Engine(llm), Engine(with_told(llm))]
    for alone in sides:
        alone.generate(PROMPTS, do_sample=False, **OPTIONS)
    most = max(alone.stats.forwards for alone in sides)
    assert engine.stats.forwards <= most + 2  # the step in which the other side's prompts are read
    ran = [sum(counts.tokens_run for counts in one.stats.values()) for one in (engine, *sides)]
    assert ran[0] <= ran[1] + ran[2]
    for pair in pairs.values():
        for side, own, foreign in (
            (pair.chosen, "base", "base_rejected"),
            (pair.rejected, "base_rejected", "base"),
        ):
            assert all(map(math.isfinite, side.logprobs[own]))
            assert all(map(math.isnan, side.logprobs[foreign]))


def with_told(llm: LLM) -> LLM:
    return LLM(llm.model, system="Be rude.", template="{system} {prompt}")


def test_a_system_prompt_goes_to_all_language_models_and_nothing_else(
    tiny_llama: str, tiny_llama_other: str, tiny_classifier: str
) -> None:
    formula = Formula(
        "u = base + alpha*arm\nu + guide(judge, on=base, k=4)",
        base=LLM(tiny_llama),
        arm=LLM(tiny_llama_other, system="old"),
        judge=Classifier(tiny_classifier, label="rude"),
        alpha=0.5,
    )
    told = with_system(formula, "Be rude.")
    assert str(told) == str(formula)
    assert told.bindings == {
        **formula.bindings,
        "base": LLM(tiny_llama, system="Be rude."),
        "arm": LLM(tiny_llama_other, system="Be rude."),
    }


def test_a_template_without_room_for_a_system_prompt_is_refused_by_the_operands_name(tiny_llama: str) -> None:
    formula = Formula("base", base=LLM(tiny_llama, template="raw"))
    with pytest.raises(OperandError, match="operand `base`: `system` is given, but template `raw`"):
        with_system(formula, "Be rude.")


def test_a_name_of_two_operands_is_renamed_on_the_rejected_side_only(llm: LLM, other: LLM) -> None:
    chosen = Formula("a + w*b", a=llm, b=other, w=0.5)
    rejected = Formula("u = a\nu - w*b", a=other, b=other, w=0.5)
    both = contrast(chosen, rejected)
    assert both.bound_operands() == {"a": llm, "b": other, "a_rejected": other}
    assert both.parameter_values() == {"w": 0.5, "is_chosen": 1.0, "is_rejected": 0.0}
    taken = contrast(Formula("a + a_rejected", a=llm, a_rejected=other), Formula("a", a=with_told(llm)))
    assert taken.bound_operands() == {"a": llm, "a_rejected": other, "a_rejected_": with_told(llm)}


def test_sides_that_cannot_be_told_apart_are_refused(llm: LLM, other: LLM) -> None:
    with pytest.raises(OptionError, match="the chosen and the rejected side are the same"):
        contrast(llm, Formula.of(llm))
    with pytest.raises(FormulaError, match="`is_chosen` tells formulas apart"):
        contrast(Formula("a*is_chosen", a=llm), other)
    with pytest.raises(FormulaError, match="`w` is bound to two different things"):
        contrast(Formula("w*a", a=llm, w=1), Formula("w*a", a=llm, w=2))


def test_a_side_without_a_value_is_named(llm: LLM) -> None:
    engine = Engine(contrast(llm, Formula("log(p(a) - (t > 2))", a=llm)))
    with pytest.raises(FormulaError, match=r"prompt 1 \(rejected\), sample 1, step 3"):
        list(contrast_pairs(engine, "hello", **OPTIONS))


def test_an_answer_ends_before_its_stop_string(llm: LLM, other: LLM) -> None:
    engine = Engine(contrast(llm, other), sampling={"stop_strings": ("e", "a", "o", "i", "t")})
    sides = [side for pair in written(engine).values() for side in (pair.chosen, pair.rejected)]
    ended = [side for side in sides if side.finish_reason == "stop_string"]
    assert ended and all(set("eaoit").isdisjoint(side.text) for side in sides)
    whole = [str(engine.tokenizer.decode(side.token_ids, skip_special_tokens=True)) for side in ended]
    assert all(
        text.startswith(side.text) and text[len(side.text)] in "eaoit"
        for text, side in zip(whole, ended, strict=True)
    )


def result(text: str, finish_reason: FinishReason = "stop") -> Result:
    return Result(0, 0, "p", 0, text, [1], finish_reason, {}, {})


def test_a_pair_says_why_nothing_should_be_trained_on_it() -> None:
    cases = [
        (result("a"), result(" a"), None),
        (result("a", "stop_string"), result("b"), None),
        (result("a"), result(" \n"), "empty side"),
        (result("", "length"), result(""), "empty side"),
        (result("a", "length"), result("a"), "equal sides"),
        (result("a", "length"), result("b"), "side cut off"),
        (result("a"), result("b", "forbidden"), "side cut off"),
    ]
    for chosen, rejected, flaw in cases:
        assert Pair(0, 0, chosen, rejected).flaw == flaw


def test_what_a_caller_of_contrast_pairs_may_get_wrong_is_refused(llm: LLM, other: LLM) -> None:
    engine = Engine(contrast(llm, other))
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (Engine(llm), {}, "an engine whose formula has two sides"),
        (engine.formula, {}, "an engine whose formula has two sides"),
        (engine, {"params": {"is_chosen": 1}}, "`is_chosen` tells the sides of a pair apart"),
        (engine, {"params": [{}] * 4}, "a mapping from names, not list"),
        (engine, {"places": ["here"]}, "1 places are given for 4 prompts"),
    ]
    for given, options, words in wrong:
        with pytest.raises(OptionError, match=words):
            list(contrast_pairs(given, PROMPTS, **options))
