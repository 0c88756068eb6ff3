"""The rows of a sweep: each is the row that would be generated alone, and little is run for it."""

import math
from typing import Any

import pytest

from arith import LLM, Engine, Formula, OptionError
from arith.runtime.sweeping.sweep import SweepResult
from tests.runtime.reference import plain, raw

PROMPTS = ["the rain", "a", "the rain", "Once upon a time"]
POINTS = (0, 0.4, 1.5)
SWEEP = {"v": list(POINTS), "w": "1 - v"}


@pytest.fixture(scope="module")
def formula(tiny_llama: str, tiny_llama_other: str, lora_a: str) -> Formula:
    arms = {"arm": raw(tiny_llama, lora_a), "other": raw(tiny_llama_other)}
    return Formula("base + v*arm + w*other", base=raw(tiny_llama), **arms)


@pytest.fixture(scope="module")
def engine(formula: Formula) -> Engine:
    return Engine(formula)


def place(result: SweepResult) -> tuple[int, int, int]:
    return result.index, result.point_index, result.sample


def test_each_row_equals_the_one_generated_alone(engine: Engine) -> None:
    options: dict[str, Any] = {"max_new_tokens": 7, "num_return_sequences": 2, "seed": 11, "top_p": 0.95}
    found = {place(result): result for result in engine.sweep(PROMPTS, SWEEP, **options)}
    assert len(found) == len(PROMPTS) * 3 * 2
    differ = 0
    for number, v in enumerate(POINTS):
        alone = engine.generate(PROMPTS, params={"v": v, "w": 1 - v}, **options)
        for one in alone:
            row = found[one.index, number, one.sample]
            assert row.point == {"v": v, "w": 1 - v}
            assert (row.token_ids, row.text, row.seed) == (one.token_ids, one.text, 11)
            for name, values in one.logprobs.items():
                assert row.logprobs[name] == pytest.approx(values, abs=1e-4, nan_ok=True)
            differ += row.token_ids != found[one.index, 0, one.sample].token_ids
    assert differ > 4, "points write different texts"


def test_one_prompt_by_itself_equals_its_rows_among_others(engine: Engine) -> None:
    whole = {place(one): one for one in engine.sweep(PROMPTS, SWEEP, max_new_tokens=5)}
    for number, prompt in enumerate(PROMPTS[:2]):
        for one in engine.sweep(prompt, SWEEP, max_new_tokens=5):
            assert one.token_ids == whole[number, one.point_index, 0].token_ids
    first, second = ([whole[index, point, 0].token_ids for point in range(3)] for index in (0, 2))
    assert first != second, "equal prompts have random numbers of their own"


def test_wanted_rows_alone_are_run_and_are_the_same(engine: Engine) -> None:
    options: dict[str, Any] = {"max_new_tokens": 5, "num_return_sequences": 3}
    whole = {place(one): one for one in engine.sweep(PROMPTS, SWEEP, **options)}
    wanted = {(2, 1, 2), (0, 0, 0), (3, 2, 1)}
    part = {place(one): one for one in engine.sweep(PROMPTS, SWEEP, wanted=wanted, **options)}
    assert set(part) == wanted
    assert all(part[key].token_ids == whole[key].token_ids for key in wanted)


def test_an_operand_of_weight_0_does_not_run_for_a_point(engine: Engine, tiny_llama: str) -> None:
    length = len(plain(tiny_llama).raw("the rain"))
    engine.stats.reset()
    found = list(engine.sweep("the rain", {"v": [0, 1], "w": [0]}, max_new_tokens=6, do_sample=False))
    assert [stats.forwards for stats in engine.stats.values()][1] == 0
    assert engine.stats.tokens_useful == 2 * length + 5 * (1 + 2), "base for both points, the arm for one"
    silent = {one.point["v"]: {name for name, v in one.logprobs.items() if math.isnan(v[0])} for one in found}
    assert silent == {0: {"arm", "other"}, 1: {"other"}}


def test_prompts_are_read_once_for_all_points_and_samples(engine: Engine, tiny_llama: str) -> None:
    length = sum(len(plain(tiny_llama).raw(prompt)) for prompt in dict.fromkeys(PROMPTS))
    engine.stats.reset()
    sweep = {"v": [0.1 * n for n in range(1, 9)], "w": [0.5]}
    list(engine.sweep(list(dict.fromkeys(PROMPTS)), sweep, max_new_tokens=1, num_return_sequences=2))
    common = 1  # the beginning-of-sequence token of each prompt is read once as well
    assert 3 * (length - 2 * common) <= engine.stats.tokens_useful <= 3 * length


def test_formulas_are_compared_in_one_engine(tiny_llama: str, tiny_llama_other: str) -> None:
    operands = {"base": raw(tiny_llama), "other": raw(tiny_llama_other)}
    sides = {
        "mix": Formula("base + w*other", **operands),
        "cut": Formula("within(base, top_k(other, 20))", **operands),
        "alone": operands["base"],
    }
    from arith.language.alternatives import alternatives

    engine = Engine(alternatives(sides))
    found = list(engine.sweep(PROMPTS, {"formula": sides, "w": [0.3, 0.9]}, max_new_tokens=5, seed=2))
    assert len(found) == len(PROMPTS) * 4
    for result in found:
        name = str(result.point["formula"])
        side = Formula.of(sides[name])
        params = {"w": result.point["w"]} if "w" in result.point else None
        alone = Engine(side).generate(PROMPTS, params=params, max_new_tokens=5, seed=2)[result.index]
        assert result.token_ids == alone.token_ids
        assert result.logprobs["formula"] == pytest.approx(alone.logprobs["formula"], abs=1e-4)


def test_a_sweep_that_cannot_be_run_is_refused_before_it_begins(engine: Engine) -> None:
    with pytest.raises(OptionError, match="nothing to sweep"):
        engine.sweep("a")
    with pytest.raises(OptionError, match="all points have the same, in one dict"):
        engine.sweep("a", {"v": [1]}, params=[{"w": 1}])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="doesn't hold the formulas that are compared"):
        engine.sweep("a", {"formula": {"a": engine.formula}, "v": [1], "w": [1]})
    with pytest.raises(OptionError, match=r"no parameter `u`"):
        engine.sweep("a", {"v": [1]}, params={"w": 1, "u": 2})
    with pytest.raises(OptionError, match="`v` is swept: its value can't be given"):
        engine.sweep("a", SWEEP, params={"v": 1})
    with pytest.raises(OptionError, match=r"at v=1: division by zero"):
        engine.sweep("a", {"v": [0, 1], "w": "1/(1 - v)"})
    fixed = engine.sweep("a", {"v": [0, 1], "w": "c - v"}, params={"c": 3}, max_new_tokens=1)
    assert sorted(float(one.point["w"]) for one in fixed) == [2, 3]


def test_the_place_of_an_error_names_prompt_and_point(tiny_llama: str) -> None:
    engine = Engine(Formula("log(p(base) - w*(t > 1))", base=LLM(tiny_llama, template="raw")))
    with pytest.raises(ValueError, match=r"prompt 1 \(w=2\), sample 1, step 2"):
        list(engine.sweep("a", {"w": [0, 2]}, max_new_tokens=4))
