"""Streamed text is exactly the decoded text, whatever the kind of tokenizer."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arith.operands import LLM
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.sampling.text import TextDecoder

TEXTS = (
    "Hello, world.",
    "naïve café — “quoted” 🙂👩‍👩‍👧 日本語 한국어\n\n  two  spaces\tand a tab ",
    " a leading space",
    "a . b , c ! it 's n't ' x ' y is n ' t",
    "\ufffd a real replacement character \ufffd",
    "",
)


def sentencepiece() -> Any:
    """Like Llama 2: spaces are `▁`, the first isn't written, and unknown characters are bytes `<0xNN>`."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *map(chr, range(33, 127)),
    ]
    tokens += ["▁a", "▁t", "▁th", "日", "é"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("▁", "a"), ("▁", "t"), ("▁t", "h")]
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return fast(tokenizer)


def metaspace() -> Any:
    """Like T5 and XGLM: the decoder leaves out the space of the first token, whichever it is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)] + [("▁a", -1.0), ("日", -3.0), ("🙂", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return fast(tokenizer)


def wordpiece(clean_up: bool) -> Any:
    """Like BERT: words joined by spaces, and `##` for a word that goes on."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *map(chr, range(33, 127)),
        *(f"##{chr(code)}" for code in range(97, 123)),
    ]
    tokens += ["n't", "'s", "'m", "'re", "日", "##🙂", "hello"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return fast(tokenizer, clean_up=clean_up)


def fast(tokenizer: Any, *, clean_up: bool = False) -> Any:
    import transformers

    new_tokenizer: Any = transformers.PreTrainedTokenizerFast
    return new_tokenizer(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=clean_up,
    )


@pytest.fixture(
    scope="module", params=["byte_level", "sentencepiece", "metaspace", "wordpiece", "cleaned_up", "smollm"]
)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    match request.param:
        case "byte_level":
            return load_tokenizer(LLM(request.getfixturevalue("tiny_llama")))
        case "smollm":
            return load_tokenizer(LLM(request.getfixturevalue("smollm")))
        case "sentencepiece":
            return sentencepiece()
        case "metaspace":
            return metaspace()
        case _:
            return wordpiece(clean_up=request.param == "cleaned_up")


def pieces(tokenizer: Any, tokens: list[int], *, skip_special_tokens: bool = True) -> list[str]:
    decoder = TextDecoder(tokenizer, skip_special_tokens=skip_special_tokens)
    return [*(decoder.push(token) for token in tokens), decoder.flush()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("skip", [True, False])
def test_pieces_join_to_the_decoded_text(tokenizer: Any, text: str, skip: bool) -> None:
    tokens = tokenizer.encode(text)
    for end in range(len(tokens) + 1):
        whole = tokenizer.decode(tokens[:end], skip_special_tokens=skip)
        assert "".join(pieces(tokenizer, tokens[:end], skip_special_tokens=skip)) == whole


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_of_random_tokens_join_to_the_decoded_text(tokenizer: Any, data: st.DataObject) -> None:
    """Also where a character is never finished, special tokens stand in the text, or it is all spaces."""
    common = tokenizer.convert_tokens_to_ids(
        ["</s>", "<s>", "▁", "Ġ", "<0x20>", "<0xE6>", "'", ".", "n't", "##a"]
    )
    token = st.integers(0, len(tokenizer) - 1) | st.sampled_from([one for one in common if one is not None])
    tokens = data.draw(st.lists(token, max_size=30))
    for skip in (True, False):
        whole = tokenizer.decode(tokens, skip_special_tokens=skip)
        assert "".join(pieces(tokenizer, tokens, skip_special_tokens=skip)) == whole


def test_what_is_given_out_and_what_is_pending_make_the_text_so_far(tokenizer: Any) -> None:
    tokens = tokenizer.encode(TEXTS[1])
    decoder = TextDecoder(tokenizer)
    given = ""
    for count, token in enumerate(tokens, start=1):
        given += decoder.push(token)
        assert given + decoder.pending == tokenizer.decode(tokens[:count], skip_special_tokens=True)


def test_a_whole_character_is_given_out_with_its_last_byte(tiny_llama: str) -> None:
    tokenizer = load_tokenizer(LLM(tiny_llama))
    tokens = tokenizer.encode("aé🙂", add_special_tokens=False)
    assert len(tokens) == 7
    assert pieces(tokenizer, tokens) == ["a", "", "é", "", "", "", "🙂", ""]


def test_half_a_character_at_the_end_is_flushed_as_the_tokenizer_writes_it(tiny_llama: str) -> None:
    tokenizer = load_tokenizer(LLM(tiny_llama))
    tokens = tokenizer.encode("a🙂", add_special_tokens=False)[:-1]
    assert pieces(tokenizer, tokens) == ["a", "", "", "", "\ufffd"]


def test_bytes_that_are_no_text_do_not_hold_back_what_follows(tiny_llama: str) -> None:
    tokenizer = load_tokenizer(LLM(tiny_llama))
    assert pieces(tokenizer, [0xFF, 0xFF, ord("a")]) == ["", "\ufffd", "\ufffda", ""]


def test_a_long_text_is_decoded_in_windows(tiny_llama: str) -> None:
    tokenizer = load_tokenizer(LLM(tiny_llama))
    tokens = tokenizer.encode("The same again. " * 200, add_special_tokens=False)
    longest = 0
    decoder = TextDecoder(tokenizer)

    def decode(window: list[int], **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(window))
        return original(window, **options)

    original = tokenizer.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "decode", decode)
        text = "".join([*(decoder.push(token) for token in tokens), decoder.flush()])
    assert text == "The same again. " * 200
    assert longest <= 4
