"""Each source on rows as it publishes them: the examples written out by hand, and what it doesn't take."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from arith.errors import SpecError
from trainers.data.example import Example
from trainers.data.keys import SourceName
from trainers.data.sources import SOURCES, SkippedRow
from trainers.data.sources.columns import RowReader

PLACE = "rows.jsonl:7"
USER = {"role": "user", "content": "Sky?"}
BLUE = {"role": "assistant", "content": " blue"}
RED = {"role": "assistant", "content": "red "}
MORE = {"role": "user", "content": "Sure?"}
SAFE = {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 0, "safer_response_id": 1}
SAFE_NEWER = {
    "prompt_source": "Alpaca3-8B", "response_0_source": "Alpaca3-8B", "response_0_severity_level": 2,
    "response_1_severity_level": 0, "response_0_harm_category": {"Privacy Violation": True},
    "is_response_0_safe": False, "is_response_1_safe": True, "response_0_sha256": "0f",
}  # fmt: skip
ULTRA = {
    "prompt": "Sky?", "prompt_id": "x", "messages": [USER, BLUE], "score_chosen": 8.5, "score_rejected": 4.0,
    "chosen": [USER, BLUE], "rejected": [USER, RED],
}  # fmt: skip
ALPACA = {"instruction": "i", "output_1": "one", "output_2": "two", "generator_1": "g", "annotator": "gpt4"}


def example(source: SourceName, row: Mapping[str, object], *, pairs: bool = True) -> Example:
    return RowReader(source, {}, pairs).example(PLACE, row)


def sides(source: SourceName, row: Mapping[str, object], *, pairs: bool = True) -> tuple[Any, ...]:
    found = example(source, row, pairs=pairs)
    assert found.place == PLACE
    return found.prompt, found.chosen, found.rejected


def test_every_name_of_a_recipe_has_a_source() -> None:
    assert set(get_args(SourceName)) == set(SOURCES)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [BLUE], "rejected": [RED]},
        {"prompt": [USER], "chosen": " blue", "rejected": "red "},
        {"chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": None, "chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": "Sky?", "chosen": [USER, BLUE], "rejected": [USER, RED]},
        {"prompt": "Sky?", "chosen": [BLUE], "rejected": [RED]},
        {"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, RED]},
    ],
)
def test_the_conversational_formats_are_one_pair_written_in_several_ways(row: dict[str, object]) -> None:
    assert sides("preference", row) == ([USER], " blue", "red ")


def test_answers_of_several_messages_share_all_but_the_last() -> None:
    row = {"prompt": [USER], "chosen": [BLUE, MORE, RED], "rejected": [BLUE, MORE, BLUE]}
    assert sides("preference", row) == ([USER, BLUE, MORE], "red ", " blue")


def test_texts_are_kept_as_they_are() -> None:
    row = {"prompt": " p\r\n", "chosen": "\ta ", "rejected": "b\n", "id": 3, "tone": "shy"}
    found = example("preference", row)
    assert found == Example(" p\r\n", "\ta ", "b\n", PLACE, {"id": 3, "tone": "shy"})
    assert found.whole_prompt == {"prompt": " p\r\n", "id": 3, "tone": "shy"}


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        # The first three are what TRL's extract_prompt gives too: the sides differ where a word begins.
        ("The sky is blue.", "The sky is red.", ("The sky is", " blue.", " red.")),
        ("Q:\nyes", "Q:\nno", ("Q:\n", "yes", "no")),
        ("a\n\nA: I am", "a\n\nA: You", ("a\n\nA:", " I am", " You")),
        ("The sky is blue.", "The sky is black.", ("The sky is", " blue.", " black.")),
        ("It is so", "It is so far", ("It is", " so", " so far")),
        ("x  y", "x  z", ("x ", " y", " z")),
        ("so it is", "so it is", ("so it", " is", " is")),
        ("Q:\n bird", "Q:\n birch", ("Q:\n", " bird", " birch")),
    ],
)
def test_a_prompt_inside_the_texts_ends_before_the_word_in_which_they_differ(
    chosen: str, rejected: str, expected: tuple[str, str, str]
) -> None:
    assert sides("preference", {"chosen": chosen, "rejected": rejected}) == expected


@pytest.mark.parametrize("row", [{"chosen": "Yes", "rejected": "No"}, {"chosen": " a", "rejected": " b"}])
def test_texts_without_a_common_beginning_are_skipped(row: dict[str, object]) -> None:
    with pytest.raises(SkippedRow, match="no beginning in common"):
        example("preference", row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "completion": " c"}, ("p", " c", None)),
        ({"prompt": [USER], "completion": [BLUE]}, ([USER], " blue", None)),
        ({"prompt": "Sky?", "completion": [BLUE]}, ([USER], " blue", None)),
        ({"messages": [USER, BLUE]}, ([USER], " blue", None)),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, ("p", "a", "b")),
    ],
)
def test_objectives_without_pairs_take_single_answers_too(row: dict[str, object], expected: object) -> None:
    assert sides("preference", row, pairs=False) == expected


def test_a_pair_is_read_where_a_row_has_both() -> None:
    assert sides("preference", ULTRA, pairs=False) == ([USER], " blue", "red ")


@pytest.mark.parametrize("extra", [{}, SAFE_NEWER])
def test_safe_rlhf_chooses_by_its_labels_in_both_releases(extra: dict[str, object]) -> None:
    assert sides("safe_rlhf_helpful", {**SAFE, **extra}) == ("p", "a", "b")
    assert sides("safe_rlhf_harmless", {**SAFE, **extra}) == ("p", "b", "a")
    assert sides("safe_rlhf_harmless", {**SAFE, **extra, "safer_response_id": "0"}) == ("p", "a", "b")


@pytest.mark.parametrize("label", [2, -1, 0.5, True, None, "", "a", float("nan"), 10**400, [0], {}])
def test_a_safe_rlhf_label_outside_0_and_1_is_an_error(label: object) -> None:
    with pytest.raises(SpecError) as refused:
        example("safe_rlhf_helpful", {**SAFE, "better_response_id": label})
    assert refused.value.message.startswith(f"{PLACE}: `better_response_id` must be ")


def test_ultrafeedback_takes_the_prompt_from_the_messages() -> None:
    assert sides("ultrafeedback", ULTRA) == ([USER], " blue", "red ")
    unscored = {name: ULTRA[name] for name in ("prompt", "chosen", "rejected")}
    assert sides("ultrafeedback", unscored) == ([USER], " blue", "red ")


def test_ultrafeedback_of_equal_scores_is_skipped() -> None:
    with pytest.raises(SkippedRow, match="same score"):
        example("ultrafeedback", {**ULTRA, "score_rejected": 8.5})


@pytest.mark.parametrize(
    ("preference", "chosen"),
    [(1, "one"), (2, "two"), (1.0, "one"), (1.0003, "one"), (1.9, "two"), ("2", "two"), ("1.0", "one")],
)
def test_alpaca_eval_prefers_the_output_of_that_number(preference: object, chosen: str) -> None:
    rejected = {"one": "two", "two": "one"}[chosen]
    assert sides("alpaca_eval", {**ALPACA, "preference": preference}) == ("i", chosen, rejected)


@pytest.mark.parametrize("preference", [0, 0.0, 1.5, None, float("nan")])
def test_alpaca_eval_without_a_preference_is_skipped(preference: object) -> None:
    with pytest.raises(SkippedRow, match=r"draw|no preference"):
        example("alpaca_eval", {**ALPACA, "preference": preference})


@pytest.mark.parametrize("preference", [3, -1, 0.5, 2.01, "x", True, [1], float("inf"), 10**400])
def test_any_other_preference_of_alpaca_eval_is_an_error(preference: object) -> None:
    with pytest.raises(SpecError, match=rf"{PLACE}: `preference` must be"):
        example("alpaca_eval", {**ALPACA, "preference": preference})


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "`chosen` is null"),
        ({"prompt": None, "chosen": "the dog", "rejected": "the cat"}, "`prompt` is null"),
        ({"prompt": "p", "chosen": "a", "rejected": float("nan")}, "`rejected` is null"),
        ({"chosen": [USER], "rejected": [USER, RED]}, "`chosen` doesn't end in a message of the assistant"),
        ({"chosen": [USER, BLUE], "rejected": []}, "`rejected` doesn't end in a message of the assistant"),
        ({"chosen": [USER, BLUE], "rejected": [MORE, RED]}, "the two sides answer different conversations"),
        (
            {"chosen": [USER, {"role": "assistant", "content": None}], "rejected": [USER, RED]},
            "a message of `chosen` has no content",
        ),
    ],
)
def test_a_row_that_says_too_little_is_skipped_by_cause(row: dict[str, object], cause: str) -> None:
    with pytest.raises(SkippedRow) as skipped:
        example("preference", row)
    assert skipped.value.cause == cause


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "`prompt` must be text or a list of messages, not 3"),
        (
            {"prompt": "p", "chosen": {}, "rejected": "b"},
            "`chosen` must be text or a list of messages, not {}",
        ),
        ({"prompt": "p", "chosen": "a", "rejected": True}, "`rejected` must be text or a list of messages"),
        ({"prompt": "p", "chosen": "a", "rejected": [RED]}, "`rejected` must be text where `chosen` is"),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b"]}, "`chosen` message 1 isn't an object with role"),
        ({"prompt": "p", "chosen": [[BLUE]], "rejected": [RED]}, "`chosen` message 1 isn't an object"),
        (
            {"prompt": "p", "chosen": [USER, {"from": "gpt", "value": "x"}], "rejected": [RED]},
            "`chosen` message 2 isn't an object with role and content",
        ),
        (
            {
                "prompt": "p",
                "chosen": [{"role": "assistant", "content": [{"type": "text"}]}],
                "rejected": [RED],
            },
            "`chosen` message 1 needs `content` that is text",
        ),
    ],
)
def test_a_value_of_another_kind_is_an_error_with_its_place(row: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError) as refused:
        example("preference", row)
    assert refused.value.message.startswith(f"{PLACE}: {words}")


def test_a_long_value_is_not_shown_whole() -> None:
    with pytest.raises(SpecError) as refused:
        example("safe_rlhf_helpful", {**SAFE, "response_0": ["x" * 10_000]})
    assert len(refused.value.message) < 200
