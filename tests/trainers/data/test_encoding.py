"""Examples as token ids, compared with ids written out by hand (token n below 256 is byte n)."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from tokenizers.normalizers import Lowercase

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.prompts import render
from trainers.data.encoding import ANSWER_CUT, EncodedPair, Encoder, Limits, RefusedPrompt
from trainers.data.example import Example
from trainers.data.sources import SkippedRow

BOS, EOS, USER, ASSISTANT = 256, 257, 258, 259
IN, SPACE_T, SPACE_THE = 264, 262, 269
EXAMPLE = Example("q", " the a ", "b", "f:1")


@pytest.fixture
def encoder(tokenizer: Any, raw: LLM) -> Encoder:
    return Encoder(raw, tokenizer, EOS, Limits(None, None), pairs=True)


def test_answers_are_encoded_by_themselves_and_end_in_the_end_token(encoder: Encoder) -> None:
    # ` the` is one token by itself, and `i` before `n` doesn't merge with it across the border.
    pair = encoder.encode(replace(EXAMPLE, prompt="qi", rejected="n")).pair
    expected = EncodedPair([BOS, *b"qi"], [SPACE_THE, 32, *b"a", 32, EOS], [*b"n", EOS])
    assert pair == expected
    assert pair.length == 3 + 5 + 2
    assert replace(encoder, end_id=None).encode(EXAMPLE).pair.rejected_ids == [*b"b"]


def test_a_chat_prompt_is_rendered_as_the_operand_renders_it(
    encoder: Encoder, tokenizer: Any, tiny_llama: str
) -> None:
    operand = LLM(tiny_llama, system="Be {tone}.")
    messages = [{"role": "user", "content": "q"}]
    example = replace(EXAMPLE, prompt=messages, fields={"tone": "shy", "prompt": "no", "score": 3})
    encoded = replace(encoder, operand=operand).encode(example)
    assert encoded.pair.prompt_ids == render(operand, tokenizer, {"prompt": messages, "tone": "shy"})
    assert encoded.pair.prompt_ids[-4:] == [USER, *b"q", EOS, ASSISTANT]


def test_without_pairs_the_rejected_answer_is_not_looked_at(encoder: Encoder) -> None:
    single = replace(encoder, pairs=False)
    for rejected in (None, "", EXAMPLE.chosen):
        pair = single.encode(replace(EXAMPLE, rejected=rejected)).pair
        assert pair.rejected_ids is None
        assert pair.length == len(pair.prompt_ids) + len(pair.chosen_ids)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"chosen": ""}, "an answer is empty"),
        ({"rejected": " \r\n\t\u2028"}, "an answer is empty"),
        ({"rejected": " the a "}, "the two answers are equal"),
    ],
)
def test_answers_that_teach_nothing_are_skipped(
    encoder: Encoder, changes: dict[str, Any], cause: str
) -> None:
    with pytest.raises(SkippedRow) as skipped:
        encoder.encode(replace(EXAMPLE, **changes))
    assert skipped.value.cause == cause


def test_answers_equal_after_truncation_are_skipped(encoder: Encoder) -> None:
    example = replace(EXAMPLE, chosen="same one", rejected="same two")
    cut = replace(encoder, limits=Limits(6, None))  # 2 tokens of prompt leave 4 for the answers
    with pytest.raises(SkippedRow, match="equal after truncation"):
        cut.encode(example)
    encoded = replace(encoder, limits=Limits(8, None)).encode(example)
    assert encoded.cuts == (ANSWER_CUT,)
    assert encoded.pair.rejected_ids == [*b"same", SPACE_T, *b"w"]


def test_answers_that_the_tokenizer_does_not_tell_apart_are_skipped(encoder: Encoder, tokenizer: Any) -> None:
    lower_casing = copy.deepcopy(tokenizer)
    lower_casing.backend_tokenizer.normalizer = Lowercase()
    blind = replace(encoder, tokenizer=lower_casing, limits=Limits(None, 1))
    with pytest.raises(SkippedRow, match="have equal tokens"):
        blind.encode(replace(EXAMPLE, chosen="Yes", rejected="yes"))


def test_a_refused_prompt_is_skipped_with_the_reason(encoder: Encoder) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for prompt in ([], chat, [{"role": "tool", "content": "x"}]):
        with pytest.raises(RefusedPrompt) as refused:
            encoder.encode(replace(EXAMPLE, prompt=prompt))
        assert refused.value.cause == "the prompt can't be rendered"
        assert refused.value.reason.startswith("f:1: ")


def test_an_operand_without_a_chat_template_is_no_matter_of_the_row(
    encoder: Encoder, tokenizer: Any, tiny_llama: str
) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(OperandError, match="no chat template"):
        replace(encoder, operand=LLM(tiny_llama), tokenizer=bare).encode(EXAMPLE)


def test_the_digest_is_that_of_the_whole_rendered_prompt(encoder: Encoder) -> None:
    first, again, other = (
        replace(encoder, limits=Limits(12, 4)).encode(replace(EXAMPLE, prompt=prompt, chosen=chosen))
        for prompt, chosen in (("one ending", "x"), ("one ending", "yy"), ("two ending", "x"))
    )
    assert first.pair.prompt_ids == other.pair.prompt_ids == [*b"nd", IN, *b"g"]
    assert first.prompt_digest == again.prompt_digest != other.prompt_digest
