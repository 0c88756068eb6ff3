"""A file's own names of columns, and what is said where one is missing."""

import pytest

from arith.errors import SpecError
from trainers.data.example import Example
from trainers.data.keys import SourceName
from trainers.data.sources.columns import RowReader


def test_a_named_column_that_the_file_lacks_is_refused_be_it_one_to_do_without() -> None:
    reader = RowReader("preference", {"prompt": "question"}, pairs=True)
    with pytest.raises(SpecError, match=r"pairs.jsonl:1: `data.columns` names `question`") as error:
        reader.example("pairs.jsonl:1", {"q": "What?", "chosen": "Well, yes", "rejected": "Well, no"})
    assert error.value.hint == "the columns are q, chosen, rejected"


def test_columns_take_the_names_that_the_file_gives_them() -> None:
    reader = RowReader("preference", {"prompt": "question", "chosen": "good", "rejected": "chosen"}, True)
    row = {"question": "q", "good": "g", "chosen": "c", "prompt": "another", "tone": "shy"}
    assert reader.example("f:1", row) == Example("q", "g", "c", "f:1", {"tone": "shy"})


def test_a_column_that_another_name_stands_for_is_not_read_under_its_own() -> None:
    reader = RowReader("safe_rlhf_helpful", {"prompt": "question"}, True)
    row = {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 0}
    with pytest.raises(
        SpecError, match=r"f:1: source safe_rlhf_helpful needs the column `question`"
    ) as error:
        reader.example("f:1", row)
    assert (error.value.hint or "").endswith("; `data.columns` gives other names: {prompt: NAME}")


def test_a_name_that_the_source_has_not_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"`data.columns`: source preference has no column `choosen`"
    ) as error:
        RowReader("preference", {"choosen": "good"}, True)
    assert error.value.hint == "did you mean `chosen`?"
    with pytest.raises(SpecError, match=r"no column `x`") as error:
        RowReader("hh", {"x": "good"}, True)
    assert error.value.hint == "its columns are chosen, rejected"


@pytest.mark.parametrize(
    ("source", "row", "words", "hint"),
    [
        (
            "preference",
            {"prompt": "p", "answer": "a", "rejected": "b"},
            "the column `chosen`",
            "the columns are prompt, answer, rejected; `data.columns` gives other names: {chosen: NAME}",
        ),
        (
            "safe_rlhf_harmless",
            {"prompt": "p", "chosen": "a", "rejected": "b"},
            "the columns `response_0`, `response_1`, `safer_response_id`",
            "the columns are prompt, chosen, rejected; "
            "source preference or hh or hh_transcript or ultrafeedback reads them",
        ),
        (
            "hh",
            {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1},
            "the columns `chosen`, `rejected`",
            "the columns are instruction, output_1, output_2, preference; source alpaca_eval reads them",
        ),
        (
            "hh",
            {},
            "the columns `chosen`, `rejected`",
            "there are no columns; `data.columns` gives other names",
        ),
        (
            "preference",
            {"prompt": "p", "completion": "c"},
            "the columns `chosen`, `rejected`",
            "the columns are prompt, completion; `data.columns` gives other names: {chosen: NAME}",
        ),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    source: SourceName, row: dict[str, object], words: str, hint: str
) -> None:
    with pytest.raises(SpecError) as error:
        RowReader(source, {}, True).example("f.jsonl:3", row)
    assert error.value.message == f"f.jsonl:3: source {source} needs {words}"
    assert (error.value.hint or "").startswith(hint)


def test_without_pairs_the_nearest_set_of_columns_is_asked_for() -> None:
    with pytest.raises(SpecError, match="needs the column `completion`"):
        RowReader("preference", {}, False).example("f:1", {"prompt": "p", "text": "c"})
