"""Results that are read: whole rows only, each with what it is, and a key that is its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from arith.errors import SpecError
from arith.study.results import read_results
from tests.study.written_rows import grid, sweep_row, write_rows


def key_of(folder: Path, row: dict[str, Any]) -> str:
    (found,) = read_results(write_rows(folder, [row]))
    return found.key


def test_a_folder_and_its_file_hold_the_same_rows(tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "out", grid(3, [0, 0.5], 2))
    rows = read_results(folder)
    assert rows == read_results(folder / "results.jsonl")
    assert [row.place for row in rows] == [f"{folder}/results.jsonl:{line}" for line in range(1, 13)]
    assert (rows[3].prompt_id, rows[3].point, rows[3].sample) == (0, {"h": 0.5}, 1)
    assert rows[3].tokens == 3 and rows[3].text == "Answer 0 at 0.5, 1."
    assert str(rows[3]) == "prompt 0, h=0.5, sample 1"


def test_rows_of_generate_have_their_parameters_as_point(tmp_path: Path) -> None:
    row = sweep_row(fields={"topic": "rain"}, params={"alpha": 2.0}, id="seven")
    del row["point"], row["prompt_id"]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read_results(path)
    assert (found.prompt_id, found.point) == ("seven", {"alpha": 2.0})
    assert found.whole == {"prompt": "Question 0?", "topic": "rain"}
    written_by_sweep = {**row, "point": {"alpha": 2.0}}
    assert found.key == key_of(tmp_path / "out", written_by_sweep)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Other?"},
        {"prompt": [{"role": "user", "content": "Question 0?"}]},
        {"fields": {"topic": "rain"}},
        {"point": {"h": 0.25}},
        {"point": {"h": 0.5, "s": 0.0}},
        {"occurrence": 1},
        {"sample": 1},
        {"text": "Answer 0 0. "},
    ],
)
def test_the_key_changes_with_whatever_a_score_depends_on(tmp_path: Path, change: dict[str, Any]) -> None:
    assert key_of(tmp_path / "a", sweep_row()) != key_of(tmp_path / "b", sweep_row(**change))


def test_the_key_stays_whatever_a_prompt_is_called_and_however_its_text_was_drawn(tmp_path: Path) -> None:
    again = sweep_row(prompt_id="first", seed=8, run="another", logprobs={})
    assert key_of(tmp_path / "a", sweep_row()) == key_of(tmp_path / "b", again)


def test_a_last_line_that_is_cut_off_anywhere_is_left_out(tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "out", [sweep_row(0), sweep_row(1, text="één …")])
    file = folder / "results.jsonl"
    content = file.read_bytes()
    first = content.index(b"\n") + 1
    whole = read_results(folder)
    for end in range(first, len(content) + 1):
        file.write_bytes(content[:end])
        assert read_results(folder) == whole[: 2 if end >= len(content) - 1 else 1]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"prompt": "a"}', "no `occurrence`"),
        (json.dumps(sweep_row(sample=-1)), "`sample`"),
        (json.dumps(sweep_row(text=None)), "`text`"),
        (json.dumps(sweep_row(token_ids="abc")), "`token_ids`"),
        (json.dumps(sweep_row(point={"h": True})), "`point`"),
        (json.dumps(sweep_row(5)), "stands twice"),
        (json.dumps(sweep_row(5, text="another one")), "stands twice"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_any_other_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "results.jsonl"
    lines = [json.dumps(sweep_row(5)), line, json.dumps(sweep_row(6))]
    file.write_bytes("".join(f"{one}\n" for one in lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(SpecError, match=problem) as caught:
        read_results(tmp_path)
    assert f"{file}:2: " in str(caught.value)


def test_what_holds_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the folder holds no sweep"):
        read_results(tmp_path)
    with pytest.raises(SpecError, match="no such file"):
        read_results(tmp_path / "missing")
    for content in ("", "\n", '{"prompt'):
        (tmp_path / "results.jsonl").write_text(content)
        with pytest.raises(SpecError, match="holds no row of results"):
            read_results(tmp_path)
