"""HH-RLHF's transcripts, taken apart: text inside the turns is never changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.sources import SkippedRow
from trainers.data.sources.columns import RowReader
from trainers.data.sources.hh import transcript_messages

OPENING = "\n\nHuman: How?\n\nAssistant: So.\n\nHuman:  Why? \n\nAssistant:"
CHAT = [
    {"role": "user", "content": "How?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": " Why? "},
]
MARKERS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}


def read(source: str, chosen: str, rejected: str, **more: str) -> tuple[object, str, str | None]:
    row = {"chosen": chosen, "rejected": rejected, **more}
    found = RowReader(source, {}, True).example("f:1", row)  # type: ignore[arg-type]
    return found.prompt, found.chosen, found.rejected


def test_a_transcript_becomes_messages_and_its_last_turn_the_answer() -> None:
    assert read("hh", OPENING + "  I see.\n\n1. x ", OPENING + " No") == (CHAT, " I see.\n\n1. x ", "No")


def test_the_transcript_itself_stays_as_it_stands() -> None:
    assert read("hh_transcript", OPENING + "  I see. ", OPENING + " No") == (OPENING, "  I see. ", " No")


def test_a_prompt_of_its_own_column_ends_where_the_answers_begin() -> None:
    assert read("hh_transcript", " Yes.", " No.", prompt=OPENING) == (OPENING, " Yes.", " No.")
    with pytest.raises(SkippedRow, match="doesn't end in"):
        read("hh_transcript", " Yes.", " No.", prompt="\n\nHuman: How?")


@pytest.mark.parametrize("source", ["hh", "hh_transcript"])
@pytest.mark.parametrize(
    ("chosen", "rejected", "cause"),
    [
        (OPENING + " a", OPENING.replace("How", "Who") + " b", "different conversations"),
        (OPENING + " a", "\n\nHuman: How?\n\nAssistant: b", "different conversations"),
        (OPENING + " a", OPENING + " b\n\nHuman: c", "`rejected` doesn't end in a"),
        ("\n\nHuman: How?", OPENING + " b", "`chosen` doesn't end in a"),
    ],
)
def test_transcripts_that_give_no_pair_are_skipped(
    source: str, chosen: str, rejected: str, cause: str
) -> None:
    with pytest.raises(SkippedRow, match=cause):
        read(source, chosen, rejected)


@pytest.mark.parametrize("text", ["", "Human: a", "hello", "x\n\nHuman: a\n\nAssistant: b"])
def test_text_that_is_no_transcript_is_skipped(text: str) -> None:
    with pytest.raises(SkippedRow, match="begin with a turn"):
        read("hh", text, text)


def test_an_empty_turn_and_a_missing_space_are_no_other_turns() -> None:
    messages = transcript_messages("\n\nHuman:\n\nAssistant: \n\nHuman:a\n\nHuman: b")
    assert messages == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant"]), st.text(alphabet="aH:\n\r\t é\u2028", max_size=12)),
        min_size=1,
        max_size=5,
    )
)
def test_a_transcript_written_from_messages_is_read_back(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    transcript = "".join(MARKERS[message["role"]] + message["content"] for message in messages)
    assert transcript_messages(transcript) == messages
