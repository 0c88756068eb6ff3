"""What a call of an engine can't mean is an error in words, before anything has run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arith import LLM, Engine, Formula, FormulaError, OptionError, PromptError
from tests.runtime.reference import raw


@pytest.fixture(scope="module")
def engine(tiny_llama: str) -> Engine:
    return Engine(raw(tiny_llama))


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("a\ud800", r"prompt 1: the prompt holds `\ud800`, which stands for no character"),
        (["a", "\udcff hi"], r"prompt 2: the prompt holds `\udcff`"),
        ([{"prompt": "a", "field": "\udcff"}], r"prompt 1: the prompt holds `\udcff`"),
        (b"bytes", "prompts are a text or a list of prompts, not bytes"),
        (5, "not int"),
        ([torch.zeros(2)], "prompt 1: a prompt is text"),
    ],
)
def test_what_is_no_prompt_is_refused(engine: Engine, prompts: Any, words: str) -> None:
    with pytest.raises(PromptError) as refusal:
        engine.generate(prompts, max_new_tokens=1)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"params": [3]}, "params of prompt 1 has to be a dict of values, not 3"),
        ({"params": "x"}, "params is a dict, or a list with one for each of the 1 prompts, not 'x'"),
        ({"params": 3}, "not 3"),
        ({"streamer": [print]}, "`streamer` has to be an object with `put` and `end`"),
        (
            {"stopping_criteria": [lambda ids, scores: None]},
            "function returned None in place of a truth value",
        ),
        ({"logits_processor": [lambda ids, scores: None]}, "function returned None in place of scores"),
    ],
)
def test_what_is_no_argument_is_refused(engine: Engine, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as refusal:
        engine.generate(["a"], max_new_tokens=2, **options)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "text", [[1.5], [True], ["a"], torch.tensor([1.0]), torch.tensor(3), torch.tensor([[1]]), 5, "\ud800"]
)
def test_what_is_no_text_of_tokens_is_refused(engine: Engine, text: Any) -> None:
    for call in (engine.logprobs, engine.score):
        with pytest.raises(OptionError, match="text 1 "):
            call(["a"], [text])


def test_token_ids_of_any_whole_type_are_the_same_text(engine: Engine) -> None:
    expected = engine.logprobs(["a"], [[5, 6]])
    for ids in ((5, 6), torch.tensor([5, 6]), list(torch.tensor([5, 6]).numpy())):
        assert torch.equal(engine.logprobs(["a"], [ids]), expected)


def test_a_formula_of_an_empty_vocabulary_has_no_value() -> None:
    with pytest.raises(FormulaError, match="0 token"):
        Formula("a").evaluate(a=torch.zeros(0))


def test_prompts_and_stop_strings_may_come_in_any_form(engine: Engine) -> None:
    expected = engine.generate(["on", "the"], max_new_tokens=9, stop_strings=["e"])
    for prompts in ((text for text in ("on", "the")), dict.fromkeys(("on", "the")).keys()):
        found = engine.generate(prompts, max_new_tokens=9, stop_strings="e")
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_a_prompt_that_fills_the_window_gets_one_token_and_a_longer_one_is_refused(
    new_llama: Callable[..., str],
) -> None:
    operand = LLM(new_llama("tiny_window_filled", seed=26, max_position_embeddings=16), template="raw")
    engine = Engine(operand)
    full = engine.generate("x" * 15, max_new_tokens=5)[0]  # and the BOS
    assert len(full.token_ids) == 1
    with pytest.raises(PromptError, match=r"17 tokens .* window is 16"):
        engine.generate("x" * 16, max_new_tokens=5)
