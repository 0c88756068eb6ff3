"""Stop strings and stopping criteria, row by row."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arith.errors import OptionError
from arith.operands import LLM
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.options import Sampling
from arith.runtime.sampling.stopping import Criteria, StopStrings


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


def tokens_until_stop(tokenizer: Any, strings: list[str], tokens: list[int]) -> int | None:
    """How many tokens the row has when it stops."""
    row = StopStrings(strings, tokenizer)
    return next((count for count, token in enumerate(tokens, start=1) if row.push(token)), None)


@given(
    text=st.text(alphabet="abé🙂 \n", max_size=30),
    strings=st.lists(st.text(alphabet="abé🙂 \n", min_size=1, max_size=4), max_size=3),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_stops_at_the_first_token_after_which_its_text_has_a_stop_string(
    tokenizer: Any, text: str, strings: list[str]
) -> None:
    tokens = tokenizer.encode(text, add_special_tokens=False)
    decoded = [tokenizer.decode(tokens[:count]) for count in range(1, len(tokens) + 1)]
    expected = next((i for i, so_far in enumerate(decoded, 1) if any(one in so_far for one in strings)), None)
    assert tokens_until_stop(tokenizer, strings, tokens) == expected


def test_a_row_stops_where_transformers_stops(tokenizer: Any) -> None:
    from transformers import StopStringCriteria

    tokens = tokenizer.encode("then the inner one\n\nafter café 🙂 and on")
    for strings in (["the"], ["e i"], ["\n\n"], ["é"], ["🙂 a"], ["zz", "d on"], ["n"], [" an"]):
        theirs = StopStringCriteria(tokenizer, strings)
        ids = torch.tensor([tokens])
        expected = next(end for end in range(1, len(tokens) + 1) if bool(theirs(ids[:, :end], None)))
        assert tokens_until_stop(tokenizer, strings, tokens) == expected


def test_a_stop_string_may_begin_long_before_the_token_that_completes_it(tokenizer: Any) -> None:
    tokens = tokenizer.encode(
        "x" * 50 + "a long stop string, with an end" + "y" * 50, add_special_tokens=False
    )
    stop = "a long stop string, with an end"
    count = tokens_until_stop(tokenizer, [stop], tokens)
    assert count is not None
    assert tokenizer.decode(tokens[:count]).endswith(stop)


def test_special_tokens_can_be_stop_strings(tokenizer: Any) -> None:
    assert tokens_until_stop(tokenizer, ["<|user|>"], [97, 98, 258, 99]) == 3


def test_a_byte_token_stops_at_once() -> None:
    """A newline is often a byte token, which may be half a character to a decoder, but not here."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    names = ["a", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(
        models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], byte_fallback=True)
    )
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    new_tokenizer: Any = PreTrainedTokenizerFast
    assert tokens_until_stop(new_tokenizer(tokenizer_object=backend), ["\n"], [0, 1 + 10, 0]) == 2


def test_without_stop_strings_nothing_is_decoded(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "decode", None)
    row = StopStrings((), tokenizer)
    assert not any(row.push(token) for token in range(10))


@pytest.mark.parametrize("strings", ["", [""], ["a", ""], [3], 3, None])
def test_what_is_no_list_of_stop_strings_is_refused(strings: Any) -> None:
    with pytest.raises(
        OptionError, match=r"`stop_strings` = .*must be a text, or a list of texts that aren't empty"
    ):
        Sampling.of({"stop_strings": strings})


def test_a_single_text_is_one_stop_string() -> None:
    assert Sampling.of({"stop_strings": "end"}).stop_strings == ("end",)


def test_criteria_see_one_row_with_its_own_tokens_and_scores() -> None:
    seen: list[tuple[list[list[int]], Tensor]] = []

    def odd(input_ids: Tensor, scores: tuple[Tensor, ...]) -> Tensor:
        seen.append((input_ids.tolist(), scores[-1]))
        return input_ids[:, -1] % 2 == 1

    histories, scores = [[1, 2], [3], [4, 5, 7]], torch.arange(12.0).reshape(3, 4)
    assert Criteria([odd])(histories, scores) == [False, True, True]
    assert [tokens for tokens, _ in seen] == [[history] for history in histories]
    assert torch.equal(torch.cat([row for _, row in seen]), scores)


def test_criteria_of_transformers_decide_as_they_do_by_themselves() -> None:
    from transformers import MaxLengthCriteria, MaxTimeCriteria, StoppingCriteriaList
    from transformers.generation.stopping_criteria import ConfidenceCriteria, EosTokenCriteria

    scores = torch.tensor([[0.0, 5.0], [0.0, 0.0], [0.0, 5.0]])
    histories = [[0, 1], [0, 1], [0, 0, 1]]
    assert Criteria([MaxLengthCriteria(3)])(histories, scores) == [False, False, True]
    assert Criteria([EosTokenCriteria(0)])([[1, 0], [0, 1]], scores[:2]) == [True, False]
    assert Criteria(StoppingCriteriaList([MaxTimeCriteria(0.0, 0.0)]))(histories, scores) == [True] * 3
    confidence: Any = ConfidenceCriteria
    assert Criteria([confidence(0.6), MaxLengthCriteria(3)])(histories, scores) == [False, True, True]


def test_every_criterion_is_asked_at_every_step() -> None:
    asked: list[int] = []

    def done(input_ids: Tensor, scores: tuple[Tensor, ...]) -> bool:
        asked.append(len(asked))
        return True

    assert Criteria([done, done])([[1]], torch.zeros(1, 3)) == [True]
    assert len(asked) == 2


def test_no_criteria_end_no_row() -> None:
    assert not Criteria(None)
    assert not Criteria([])
    assert Criteria(None)([[1], [2]], torch.zeros(2, 3)) == [False, False]


def test_an_answer_that_is_no_truth_value_is_refused() -> None:
    def both(input_ids: Tensor, scores: tuple[Tensor, ...]) -> Tensor:
        return torch.tensor([True, False])

    with pytest.raises(OptionError, match=r"function answers one row with a tensor of shape \[2\]"):
        Criteria([both])([[1]], torch.zeros(1, 3))


@pytest.mark.parametrize("given", [3, [3], lambda input_ids, scores: True])
def test_what_is_no_list_of_criteria_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="`stopping_criteria` has to be a list of objects to call"):
        Criteria(given)
