"""The common vocabulary: agreement is checked token by token, and nothing is trimmed without a note."""

from collections.abc import Callable

import pytest

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.tokenizers import load_tokenizer
from arith.operands.vocabulary import Member, Vocabulary, common_vocabulary


def member(folder: str, logits: int, policy: str = "common") -> Member:
    return Member(load_tokenizer(LLM(folder)), logits, policy)


def test_equal_vocabularies_are_whole_padding_included(tiny_llama: str, tiny_llama_other: str) -> None:
    members = {"a": member(tiny_llama, 288, "strict"), "b": member(tiny_llama_other, 288, "strict")}
    assert common_vocabulary(members) == Vocabulary(288, ())
    assert common_vocabulary({"a": members["a"]}) == Vocabulary(288, ())


def test_a_longer_vocabulary_is_trimmed_and_reported(tiny_llama: str, tiny_llama_padded: str) -> None:
    members = {"base": member(tiny_llama, 270), "arm": member(tiny_llama_padded, 276)}
    for order in (["base", "arm"], ["arm", "base"]):
        vocabulary = common_vocabulary({name: members[name] for name in order})
        assert vocabulary.size == 270
        (note,) = vocabulary.notes
        assert "`arm` 271 tokens, 276 logits" in note
        assert "trimmed: `arm` (6)" in note


def test_padding_of_another_width_is_trimmed_to_real_tokens(tiny_llama: str, tiny_llama_other: str) -> None:
    vocabulary = common_vocabulary({"a": member(tiny_llama, 272), "b": member(tiny_llama_other, 288)})
    assert vocabulary.size == 270


def test_a_token_without_a_logit_is_trimmed(tiny_llama: str, tiny_llama_other: str) -> None:
    vocabulary = common_vocabulary({"a": member(tiny_llama, 268), "b": member(tiny_llama_other, 270)})
    assert vocabulary.size == 268


def test_strict_refuses_what_common_trims(tiny_llama: str, tiny_llama_padded: str) -> None:
    members = {"base": member(tiny_llama, 270), "arm": member(tiny_llama_padded, 276, "strict")}
    with pytest.raises(OperandError, match=r"`arm` has vocab `strict`\nhint: .*first 270 tokens"):
        common_vocabulary(members)


def test_disagreement_shows_the_first_differing_tokens(tiny_llama: str, tiny_other_tokenizer: str) -> None:
    members = {"base": member(tiny_llama, 270), "arm": member(tiny_other_tokenizer, 270)}
    with pytest.raises(OperandError) as refusal:
        common_vocabulary(members)
    assert "97 is 'a' for `base` and 'b' for `arm`; 98 is 'b' for `base` and 'a' for `arm`" in str(
        refusal.value
    )
    assert "more" not in str(refusal.value)


def test_disagreement_beyond_the_shorter_vocabulary_is_no_disagreement(
    new_llama: Callable[..., str], tiny_llama: str, tiny_llama_padded: str
) -> None:
    other_extra = new_llama("other_extra", seed=30, tokenizer={"extra": ("<|different|>",)})
    members = {
        "a": member(tiny_llama, 270),
        "b": member(tiny_llama_padded, 276),
        "c": member(other_extra, 271),
    }
    with pytest.raises(OperandError, match=r"of `b` and `c` disagree: token 270"):
        common_vocabulary({name: members[name] for name in "bc"})
    with pytest.raises(OperandError, match="disagree"):
        common_vocabulary({name: members[name] for name in "bca"})
    assert common_vocabulary(members).size == 270
