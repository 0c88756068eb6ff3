"""How explanations show tokens, what they refuse, and their form as data."""

import json
from typing import Any

import pytest
import torch

from arith import LLM, Engine, Formula, FormulaError, OptionError
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.explaining.places import divergence, entropy
from arith.runtime.explaining.token_text import texts_in_place, token_texts_of
from tests.runtime.reference import raw


@pytest.fixture(scope="module")
def engine(tiny_llama: str, lora_a: str) -> Engine:
    return Engine(Formula("base + w*arm", base=raw(tiny_llama), arm=raw(tiny_llama, lora_a), w=0.5))


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


def test_tokens_are_text_special_bytes_or_unknown(tokenizer: Any) -> None:
    found = token_texts_of(tokenizer, [97, 32, 10, 269, 257, 0xF0, 300, 97])
    shown = {token: (one.text, one.kind) for token, one in found.items()}
    assert shown == {
        97: ("a", "text"),
        32: (" ", "text"),
        10: ("\n", "text"),
        269: (" the", "text"),
        257: ("</s>", "special"),
        0xF0: ("‹F0›", "bytes"),
        300: ("‹300›", "unknown"),
    }


def test_the_last_token_of_a_character_shows_it(tokenizer: Any) -> None:
    tokens = [97, *"é🌧".encode(), 98, 0xC3, 98, 257]
    found = texts_in_place(tokenizer, tokens, token_texts_of(tokenizer, tokens))
    assert [one.text for one in found] == [
        "a", "‹C3›", "é", "‹F0›", "‹9F›", "‹8C›", "🌧", "b", "‹C3›", "b", "</s>",
    ]  # fmt: skip
    assert [one.kind for one in found].count("bytes") == 5


def test_llama_style_byte_tokens_show_their_byte(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "convert_ids_to_tokens", lambda token: "<0xC3>")
    assert token_texts_of(tokenizer, [0xC3])[0xC3].text == "‹C3›"


def test_an_explanation_is_json_with_nothing_lost(engine: Engine) -> None:
    found = engine.explain([{"role": "user", "content": "hi <b>"}], 'a\n"</script>é', top=3)
    data = json.loads(json.dumps(found.as_data(), allow_nan=False))
    assert data["prompt"] == [{"role": "user", "content": "hi <b>"}]
    assert (data["text"], data["formula"], data["base"]) == ('a\n"</script>é', "base + w*arm", "base")
    assert data["params"] == {"w": 0.5} and data["terms"] == {"base": "base", "arm": "arm"}
    assert data["operands"]["arm"]["template"] == "raw" and set(data["operands"]["base"]) == {
        "model",
        "template",
    }
    assert (
        "".join(one["shown"]["text"] for one in data["tokens"] if one["shown"]["kind"] == "text")
        == data["text"]
    )
    for one, token in zip(data["tokens"], found.tokens, strict=True):
        assert one["chosen"]["log_probs"] == dict(token.chosen.log_probs)
        assert one["kl"] == token.kl and len(one["alternatives"]) == 3
        assert token.differs == (one["chosen"]["token_id"] != one["base_choice"]["token_id"])


def test_divergence_and_entropy_are_those_of_the_definition() -> None:
    """By hand: KL((1/2, 1/2, 0)‖(1/4, 1/2, 1/4)) = log(2)/2, its reverse has no bound."""
    left = torch.tensor([[0.5, 0.5, 0.0]]).log()
    right = torch.tensor([[0.25, 0.5, 0.25]]).log()
    log2 = float(torch.tensor(2.0).log())
    assert divergence(left, right).tolist() == pytest.approx([log2 / 2])
    assert divergence(right, left).tolist() == [float("inf")]
    tiny = torch.tensor([[0.0, -200.0]])  # in float32 its probability is 0
    assert divergence(tiny, torch.tensor([[0.0, -torch.inf]])).tolist() == [0.0]
    assert entropy(left).tolist() == pytest.approx([log2])
    assert entropy(right).tolist() == pytest.approx([1.5 * log2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": ""}, "text is empty"),
        ({"text": "a", "seed": 3}, "`seed` has nothing to act on"),
        ({"text": "a", "base": "bse"}, "no operand `bse`"),
        ({"text": "a", "base": "w"}, "no operand `w`"),
        ({"text": "a", "top": 0}, "top is 0"),
        ({"text": "a", "top": 271}, "from 1 to 270"),
        ({"text": "a", "top": True}, "top is True"),
        ({"text": [270]}, "token 270"),
        ({"num_return_sequences": 2}, "one text is explained at a time"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_what_can_not_be_explained_is_refused(engine: Engine, given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        engine.explain("hi", **given)


def test_prompts_and_parameters_are_checked_as_elsewhere(engine: Engine) -> None:
    with pytest.raises(OptionError, match="one prompt"):
        engine.explain(["a", "b"], "c")
    with pytest.raises(FormulaError, match="no parameter `x`"):
        engine.explain("a", "c", params={"x": 1})
    assert engine.explain(["a"], "c").prompt == engine.explain("a", "c").prompt == "a"


def test_a_special_token_is_explained_too(engine: Engine) -> None:
    found = engine.explain("hi", [97, 257])
    assert found.text == "a"
    assert [one.shown.kind for one in found.tokens] == ["text", "special"]
