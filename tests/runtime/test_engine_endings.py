"""What ends a row, what the row then holds, and that the engine goes on after an error."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from arith import LLM, Engine, EvaluationError, Formula, OptionError, PromptError
from arith.language.alternatives import alternatives, picked
from tests.runtime.reference import Script, plain, raw

END, OTHER_END, THIRD_END = 257, 258, 10
HELLO = [104, 101, 108, 108, 111]  # the bytes of `hello`
HELLO_TEXT = "hello"


@pytest.fixture(scope="module")
def single(tiny_llama: str) -> Engine:
    return Engine(raw(tiny_llama))


@pytest.fixture(scope="module")
def two_ends(new_llama: Callable[..., str], tiny_llama: str) -> Engine:
    """Two models over one tokenizer, whose end-of-sequence ids differ."""
    other = new_llama("tiny_two_ends", seed=21, eos_token_id=[OTHER_END, THIRD_END])
    return Engine(Formula("a + w*b", a=raw(tiny_llama), b=raw(other), w=0.5))


def script(*tokens: int) -> list[LogitsProcessor]:
    """A processor under which a row with the prompt `on` writes these tokens."""
    return [Script(2, tokens)]  # a BOS and one merged token


@pytest.mark.parametrize("end", [END, OTHER_END, THIRD_END])
def test_a_row_ends_at_an_end_of_any_operand(end: int, two_ends: Engine) -> None:
    found = two_ends.generate("on", logits_processor=script(*HELLO, end, *HELLO), max_new_tokens=9)[0]
    assert found.finish_reason == "stop"
    assert found.token_ids == [*HELLO, end]
    assert all(len(values) == 6 for values in found.logprobs.values())
    assert found.text == ("hello\n" if end == THIRD_END else "hello"), "special tokens stay out, others don't"


def test_an_operand_that_does_not_run_ends_no_row(two_ends: Engine) -> None:
    """So a row of weight 0 is that of the formula without the operand."""
    options: dict[str, Any] = {"logits_processor": script(104, OTHER_END, 104), "max_new_tokens": 3}
    found = two_ends.generate(["on", "on"], params=[{"w": 0}, {"w": 0.1}], **options)
    assert (found[0].finish_reason, found[0].token_ids) == ("length", [104, OTHER_END, 104])
    assert (found[1].finish_reason, found[1].token_ids) == ("stop", [104, OTHER_END])


def test_a_draft_ends_no_row_and_its_window_cuts_none(
    new_llama: Callable[..., str], single: Engine, tiny_llama: str
) -> None:
    small = new_llama("tiny_draft_of_other_ends", seed=21, eos_token_id=list(range(60, 120)))
    short = new_llama("tiny_draft_of_short_window", seed=21, max_position_embeddings=12)
    prompts = ["on", "the rain in Spain stays mainly in the plain"]
    options: dict[str, Any] = {"max_new_tokens": 20, "seed": 4, "num_return_sequences": 3}
    expected = single.generate(prompts, **options)
    assert any(set(one.token_ids) & set(range(60, 120)) for one in expected)
    for model in (small, short):
        draft = Formula("small", small=raw(model))
        engine = Engine(raw(tiny_llama), speculate={"draft": draft, "tokens": 3})
        found = engine.generate(prompts, **options)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        assert engine.stats.drafted > 0


def test_rows_of_several_formulas_end_as_they_would_by_themselves(
    new_llama: Callable[..., str], tiny_llama: str
) -> None:
    other = new_llama("tiny_formula_of_other_ends", seed=21, eos_token_id=list(range(60, 120)))
    short = new_llama("tiny_formula_of_short_window", seed=22, max_position_embeddings=12)
    a, b, c = raw(tiny_llama), raw(other), raw(short)
    formulas = {
        "alone": Formula("a", a=a),
        "both": Formula("a + 0.5*b", a=a, b=b),
        "short": Formula("a + c", a=a, c=c),
    }
    joint = Engine(alternatives(formulas))
    for name, formula in formulas.items():
        alone = Engine(formula).generate("on", max_new_tokens=20, seed=4, num_return_sequences=4)
        params = picked(formulas, name)
        found = joint.generate("on", max_new_tokens=20, seed=4, num_return_sequences=4, params=params)
        assert [one.token_ids for one in found] == [one.token_ids for one in alone]


def test_another_models_end_is_an_ordinary_token(single: Engine) -> None:
    processor = script(104, OTHER_END, THIRD_END, 105)
    found = single.generate("on", logits_processor=processor, max_new_tokens=4)[0]
    assert (found.finish_reason, len(found.token_ids)) == ("length", 4)
    assert found.text == "h\ni"


def test_a_row_that_writes_as_much_as_it_may_ends_by_length(single: Engine) -> None:
    found = single.generate("on", logits_processor=script(*HELLO, END), max_new_tokens=5)[0]
    assert (found.finish_reason, found.token_ids, found.text) == ("length", HELLO, "hello")
    at_the_end = single.generate("on", logits_processor=script(*HELLO, END), max_new_tokens=6)[0]
    assert at_the_end.finish_reason == "stop"


def test_a_row_ends_at_a_stop_string_and_keeps_it(single: Engine) -> None:
    options: dict[str, Any] = {"logits_processor": script(*HELLO, 33, 33, 33), "max_new_tokens": 8}
    found = single.generate("on", stop_strings=["lo", "nothing"], **options)[0]
    assert (found.finish_reason, found.token_ids, found.text) == ("stop_string", HELLO, "hello")
    across = single.generate("on", stop_strings=["o!!"], **options)[0]
    assert (across.finish_reason, across.text) == ("stop_string", "hello!!")
    never = single.generate("on", stop_strings=["on"], **options)[0]
    assert (never.finish_reason, never.text) == ("length", "hello!!!"), "the prompt's text does not count"


def test_stop_strings_end_each_row_by_itself(single: Engine) -> None:
    found = single.generate(
        ["on", "on", "the rain"], stop_strings=["9", "K", "~"], max_new_tokens=100, seed=2
    )
    for result in found:
        assert (result.finish_reason == "stop_string") == bool(set("9K~") & set(result.text))
        assert not set("9K~") & set(result.text[:-1])
    assert any(result.finish_reason == "stop_string" for result in found)
    assert len({len(result.token_ids) for result in found}) == 3


class Noting(StoppingCriteria):
    """Ends a row of three new tokens, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> bool:
        self.seen.append(input_ids[0].tolist())
        return input_ids.shape[1] == 5


def test_a_stopping_criterion_sees_the_first_operands_prompt_and_the_tokens(tiny_llama: str) -> None:
    engine = Engine(Formula("a - 0.2*b", a=raw(tiny_llama), b=LLM(tiny_llama, template="so: {prompt}")))
    noting = Noting()
    found = engine.generate("on", stopping_criteria=[noting], max_new_tokens=9, seed=1)[0]
    assert (found.finish_reason, len(found.token_ids)) == ("stop", 3)
    prompt = plain(tiny_llama).raw("on")
    assert noting.seen == [[*prompt, *found.token_ids[:count]] for count in (1, 2, 3)]


class Seeing(LogitsProcessor):
    """Changes nothing, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], Tensor]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.seen.append((input_ids[0].tolist(), scores.clone()))
        return scores


def test_a_processor_sees_the_formulas_normalised_log_probabilities(tiny_llama: str, lora_a: str) -> None:
    a, b = raw(tiny_llama), raw(tiny_llama, lora_a)
    seeing = Seeing()
    engine = Engine(Formula("2*a - 0.5*b", a=a, b=b))
    found = engine.generate("on", logits_processor=[seeing], max_new_tokens=2, temperature=0.5, top_k=3)[0]
    prompt = plain(tiny_llama).raw("on")
    assert [ids for ids, _ in seeing.seen] == [prompt, [*prompt, found.token_ids[0]]]
    for ids, scores in seeing.seen:
        first, second = (plain(tiny_llama, one.adapter).log_probs(ids, 1) for one in (a, b))
        assert (scores - (2 * first - 0.5 * second).log_softmax(-1)).abs().max() < 1e-4


def test_a_row_ends_where_the_context_window_does(new_llama: Callable[..., str], tiny_llama: str) -> None:
    short = new_llama("tiny_window", seed=22, max_position_embeddings=24)
    engine = Engine(Formula("a + 0.3*b", a=raw(tiny_llama), b=raw(short)))
    # Each `x` is a token, and a BOS comes before them.
    found = engine.generate(["x" * 19, "x" * 22, "x" * 23, "x"], max_new_tokens=7, temperature=0)
    assert [(one.finish_reason, len(one.token_ids)) for one in found] == [
        ("length", 4), ("length", 1), ("length", 1), ("length", 7)
    ]  # fmt: skip
    with pytest.raises(PromptError, match=r"prompt 2: .* has 25 tokens for operand `b`.*window is 24"):
        engine.generate(["x", "x" * 24], max_new_tokens=1)
    assert len(engine.generate("x" * 23, max_new_tokens=5)) == 1, "the engine can be used after that"


def test_a_row_without_a_token_left_is_named_and_the_engine_goes_on(tiny_llama: str) -> None:
    engine = Engine(Formula("log(p(a) - k*(t > 2))", a=raw(tiny_llama)))
    sampling = {"max_new_tokens": 6, "logits_processor": script(*HELLO, 33)}
    with pytest.raises(EvaluationError, match=r"row 2, sample 1, step 3") as failed:
        engine.generate(["on", "on"], params=[{"k": 0}, {"k": 10}], **sampling)
    assert "support" in failed.value.message
    assert engine.generate("on", params={"k": 0}, **sampling)[0].text == "hello!"
    with pytest.raises(EvaluationError, match=r"row 1, sample 1, step 3") as scored:
        engine.score("on", HELLO_TEXT, params={"k": 10})
    with pytest.raises(EvaluationError, match=r"row 1, sample 1, step 4"):
        engine.logprobs("on", [HELLO[:4]], params={"k": 10})
    assert scored.value.message  # held, as a debugger or a notebook holds it
    assert len(engine.score("on", HELLO_TEXT, params={"k": 0})) == 1


def test_a_processor_that_leaves_no_token_is_named_and_the_engine_goes_on(single: Engine) -> None:
    class Nothing(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            return scores - float("inf")

    with pytest.raises(OptionError, match="Nothing"):
        single.generate("on", logits_processor=[Nothing()])
    assert single.generate("on", max_new_tokens=2)[0].token_ids
