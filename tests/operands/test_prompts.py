"""Rendered prompts, compared with token ids written out by hand (token n below 256 is byte n)."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arith.errors import OperandError, PromptError
from arith.operands import LLM
from arith.operands.prompts import encode_continuation, render, turn_end
from arith.operands.tokenizers import load_tokenizer

BOS, EOS, USER, ASSISTANT, SYSTEM = 256, 257, 258, 259, 260
IN, ON, SPACE_T, SPACE_THE = 264, 268, 262, 269


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


def user(text: bytes) -> list[int]:
    return [USER, *text, EOS]


def test_a_chat_template_writes_its_special_tokens_once(tokenizer: Any, tiny_llama: str) -> None:
    assert tokenizer("x")["input_ids"] == [BOS, *b"x"]  # the tokenizer adds a BOS, and so does the template
    assert render(LLM(tiny_llama), tokenizer, "hi") == [BOS, *user(b"hi"), ASSISTANT]


@pytest.mark.parametrize(
    ("system", "expected"), [(None, []), ("", [SYSTEM, EOS]), ("Be {tone}.", [SYSTEM, *b"Be shy.", EOS])]
)
def test_no_system_prompt_differs_from_an_empty_one(
    tokenizer: Any, tiny_llama: str, system: str | None, expected: list[int]
) -> None:
    prompt = {"prompt": "hi", "tone": "shy"}
    ids = render(LLM(tiny_llama, system=system), tokenizer, prompt)
    assert ids == [BOS, *expected, *user(b"hi"), ASSISTANT]


def test_a_template_default_system_prompt_applies_only_without_one(tokenizer: Any, tiny_llama: str) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = (
        "{% if messages[0]['role'] != 'system' %}D;{% endif %}"
        "{% for m in messages %}{{ m['content'] }};{% endfor %}"
    )
    assert render(LLM(tiny_llama), own, "a") == [*b"D;a;"]
    assert render(LLM(tiny_llama, system=""), own, "a") == [*b";a;"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hi", [BOS, *b"hi"]),
        ("<s>hi", [BOS, *b"hi"]),
        ("<s><s>hi", [BOS, *b"hi"]),
        (" in the", [BOS, 32, IN, SPACE_THE]),
        ("{prompt} {x}", [BOS, *b"{prompt} {x}"]),
    ],
)
def test_raw_is_the_default_encoding_with_at_most_one_bos(
    tokenizer: Any, tiny_llama: str, text: str, expected: list[int]
) -> None:
    assert render(LLM(tiny_llama, template="raw"), tokenizer, text) == expected


def test_raw_adds_no_bos_that_the_tokenizer_does_not(tiny_gpt2: str) -> None:
    operand = LLM(tiny_gpt2, template="raw")
    assert render(operand, load_tokenizer(operand), "hi") == [*b"hi"]


@pytest.mark.parametrize(
    ("template", "system", "prompt", "expected"),
    [
        ("U {prompt}|", None, "hi", b"U hi|"),
        ("{system}/{prompt}", "S", "hi", b"S/hi"),
        ("{system}/{prompt}", "S{word}", {"prompt": "hi", "word": "W"}, b"SW/hi"),
        ("{context}/{prompt}", None, {"prompt": "q", "context": "c", "id": 7}, b"c/q"),
        # One pass: what a value says in braces stays.
        ("{system}/{prompt}", "S", "{system}{prompt}", b"S/{system}{prompt}"),
        ("{a}{b}/{prompt}", None, {"prompt": "p", "a": "{b}", "b": "{a}"}, b"{b}{a}/p"),
        ("{system}/{prompt}", "{system}", {"prompt": "p", "system": "own"}, b"own/p"),
        # Braces around anything but a name stay.
        ('{"k": {}, "v": {1}} { prompt } {{prompt}}', None, "p", b'{"k": {}, "v": {1}} { prompt } {p}'),
        ("<s>{prompt}", None, "p", b"p"),
        ("{prompt}", None, [{"role": "user", "content": "p"}], b"p"),
    ],
)
def test_a_text_template_replaces_known_fields_only(
    tokenizer: Any, tiny_llama: str, template: str, system: str | None, prompt: Any, expected: bytes
) -> None:
    assert render(LLM(tiny_llama, system=system, template=template), tokenizer, prompt) == [BOS, *expected]


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="{}ps ymt", max_size=20))
def test_the_prompt_itself_is_never_changed(tokenizer: Any, tiny_llama: str, text: str) -> None:
    ids = render(LLM(tiny_llama, template="[{prompt}]"), tokenizer, text)
    assert tokenizer.decode(ids[1:]) == f"[{text}]"


def test_messages_are_laid_out_as_they_come(tokenizer: Any, tiny_llama: str) -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    turns = [*user(b"a"), ASSISTANT, *b"b", EOS, *user(b"c"), ASSISTANT]
    assert render(LLM(tiny_llama), tokenizer, messages) == [BOS, SYSTEM, *b"s", EOS, *turns]
    assert render(LLM(tiny_llama), tokenizer, {"prompt": messages}) == [BOS, SYSTEM, *b"s", EOS, *turns]
    # The operand's own system prompt takes the place of the chat's, and stands first where there is none.
    assert render(LLM(tiny_llama, system="o"), tokenizer, messages) == [BOS, SYSTEM, *b"o", EOS, *turns]
    assert render(LLM(tiny_llama, system="o"), tokenizer, messages[1:]) == [BOS, SYSTEM, *b"o", EOS, *turns]
    assert messages[0] == {"role": "system", "content": "s"}


def test_a_last_assistant_message_is_continued(tokenizer: Any, tiny_llama: str) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b "}]
    assert render(LLM(tiny_llama), tokenizer, messages) == [BOS, *user(b"a"), ASSISTANT, *b"b "]


@pytest.mark.parametrize(
    ("declared", "prompt", "message"),
    [
        (
            {"template": "{context} {prompt}"},
            "p",
            "line 3: the template uses {context}, but this prompt has no field",
        ),
        (
            {"system": "{who}"},
            {"prompt": "p", "whom": "w"},
            "line 3: `system` uses {who}, but this prompt has no",
        ),
        ({"system": "{who}"}, {"prompt": "p", "whom": "w"}, "its fields are prompt, whom"),
        ({"template": "{n}{prompt}"}, {"prompt": "p", "n": 4}, "the field `n` isn't text: 4"),
        ({}, {"text": "p"}, "line 3: the prompt object has no field `prompt`"),
        ({}, {"prompt": 5}, "line 3: `prompt` must be text or a list of messages"),
        ({}, 5, "line 3: a prompt is text"),
        ({}, [], "the list of messages is empty"),
        ({}, ["hi"], "message 1 isn't an object"),
        ({}, [{"role": "usr", "content": "p"}], "message 1 has the role 'usr'"),
        (
            {},
            [{"role": "user", "content": "p"}, {"role": "user", "content": None}],
            "message 2 needs `content`",
        ),
        ({}, [{"role": "system", "content": "p"}], "no turn of the user"),
        ({"template": "{prompt}"}, [{"role": "assistant", "content": "p"}], "room for one user message"),
        ({"template": "raw"}, [{"role": "user", "content": "p"}] * 2, "not for a chat of 2 messages"),
        ({"system": "{prompt}"}, [{"role": "user", "content": "p"}], "the field `prompt` isn't text"),
    ],
)
def test_a_bad_prompt_is_refused_with_its_place(
    tokenizer: Any, tiny_llama: str, declared: dict[str, str], prompt: Any, message: str
) -> None:
    with pytest.raises(PromptError) as refusal:
        render(LLM(tiny_llama, **declared), tokenizer, prompt, place="line 3")
    assert message in str(refusal.value)
    assert str(refusal.value).startswith("line 3: ")


def test_an_empty_prompt_without_a_bos_is_refused(tiny_gpt2: str) -> None:
    operand = LLM(tiny_gpt2, template="raw")
    with pytest.raises(PromptError, match="no token to start from"):
        render(operand, load_tokenizer(operand), "")


def test_a_tokenizer_without_a_chat_template_asks_for_one(tokenizer: Any, tiny_llama: str) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(OperandError, match=r"has no chat template\nhint: .*template: raw"):
        render(LLM(tiny_llama), bare, "hi")


def test_a_chat_template_that_refuses_says_why(tokenizer: Any, tiny_llama: str) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('system prompts are not supported') }}"
    with pytest.raises(PromptError, match=r"\(system, user\): system prompts are not supported"):
        render(LLM(tiny_llama, system="s"), strict, "hi")


def test_a_continuation_is_encoded_by_itself_and_unstripped(tokenizer: Any) -> None:
    assert encode_continuation(tokenizer, " the ") == [SPACE_THE, 32]
    assert encode_continuation(tokenizer, "n") == [*b"n"]  # not merged with an `i` before it
    assert encode_continuation(tokenizer, "") == []


def test_the_turn_ends_where_the_chat_template_ends_it(tokenizer: Any, tiny_llama: str) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = "{% for m in messages %}{{ m['content'] }}\n<|system|>\n{% endfor %}"
    end_ids = frozenset({EOS})
    assert turn_end(LLM(tiny_llama), tokenizer, end_ids) == EOS
    assert turn_end(LLM(tiny_llama), own, end_ids) == SYSTEM
    assert turn_end(LLM(tiny_llama, template="{prompt}"), own, end_ids) == EOS
    own.chat_template = "{% for m in messages %}<|user|>{{ m['role'] }}{% endfor %}"  # drops the reply
    assert turn_end(LLM(tiny_llama), own, end_ids) == EOS
    own.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert turn_end(LLM(tiny_llama), own, end_ids) == EOS


def test_without_an_eos_the_turn_ends_at_an_end_id_of_the_model(tokenizer: Any, tiny_llama: str) -> None:
    own = copy.deepcopy(tokenizer)
    own.eos_token = None
    assert turn_end(LLM(tiny_llama, template="raw"), own, frozenset({260, 257})) == 257
    with pytest.raises(OperandError, match="no end-of-sequence token"):
        turn_end(LLM(tiny_llama, template="raw"), own, frozenset())


def test_the_demo_chat_is_that_of_its_template(smollm: str) -> None:
    operand = LLM(smollm)
    tokenizer = load_tokenizer(operand)
    text = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(render(operand, tokenizer, "hi")) == text
    bare = render(LLM(smollm, system=""), tokenizer, "hi")
    assert tokenizer.decode(bare[:6]) == "<|im_start|>system\n<|im_end|>\n<|im_start|>"
    assert tokenizer.decode([turn_end(operand, tokenizer, frozenset())]) == "<|im_end|>"


def test_a_tokenizer_is_loaded_once(new_llama: Callable[..., str], tiny_llama: str) -> None:
    assert load_tokenizer(LLM(tiny_llama)) is load_tokenizer(LLM(tiny_llama, system="s", dtype="float32"))
