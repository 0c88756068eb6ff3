"""Scores on disk: each belongs to a text, none is lost or made twice, and a missing one is told."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.study.results import ResultRow, read_results
from arith.study.scores import ScoresFile, read_scores, score_names
from arith.study.scoring.scorer import Scored
from tests.study.written_rows import grid, sweep_row, write_rows

SETTINGS = {"kind": "made up", "scale": 1.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "out", grid(3, [0, 1], 2))


def write(folder: Path, rows: Sequence[ResultRow], name: str = "good") -> None:
    """Scores each row by its place among all rows."""
    places = {row.key: place for place, row in enumerate(read_results(folder))}
    with ScoresFile(folder, name, SETTINGS) as file:
        for row in file.missing(rows):
            file.add(row, Scored(float(places[row.key])))


def test_scores_come_in_the_order_of_the_rows_however_they_were_made(folder: Path) -> None:
    rows = read_results(folder)
    write(folder, rows[::-1])
    assert read_scores(folder, "good", rows).values == [float(place) for place in range(12)]
    assert read_scores(folder, "good", rows[5:2:-1]).values == [5.0, 4.0, 3.0]
    assert score_names(folder) == ["good"]


def test_a_line_says_whose_score_it_is(folder: Path) -> None:
    rows = read_results(folder)
    with ScoresFile(folder, "good", SETTINGS) as file:
        file.add(rows[3], Scored(0.25, {"why": "short"}))
    (line,) = (folder / "scores" / "good.jsonl").read_text().splitlines()
    written = json.loads(line)
    scorer = written.pop("scorer")
    assert len(scorer) == 12
    assert written == {
        "prompt_id": 0, "point": {"h": 1}, "sample": 1, "score": 0.25, "details": {"why": "short"},
        "row": rows[3].key,
    }  # fmt: skip


def test_a_file_cut_off_anywhere_goes_on_to_the_same_scores(folder: Path) -> None:
    rows = read_results(folder)[:3]
    write(folder, rows)
    path = folder / "scores" / "good.jsonl"
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        write(folder, rows)
        assert path.read_bytes() == content


def test_only_new_rows_are_missing(folder: Path) -> None:
    write(folder, read_results(folder))
    write_rows(folder, [*grid(3, [0, 1], 2), sweep_row(9)])
    rows = read_results(folder)
    with ScoresFile(folder, "good", SETTINGS) as file:
        assert file.missing(rows) == [rows[-1]]


def test_rows_without_a_score_are_counted_and_named_with_the_way_on(folder: Path) -> None:
    rows = read_results(folder)
    write(folder, [row for row in rows if row.sample == 0 or row.prompt_id == 0])
    with pytest.raises(SpecError) as caught:
        read_scores(folder, "good", rows)
    assert "4 of 12 rows have no score:" in caught.value.message
    assert "prompt 1, h=0, sample 1" in caught.value.message and "and 1 more" in caught.value.message
    assert f"arith score-sweep {folder} --with" in str(caught.value.hint)


def test_a_score_is_of_the_text_that_was_scored(folder: Path) -> None:
    write(folder, read_results(folder))
    changed = [
        {**row, "text": row["text"].upper()} if row["prompt_id"] == 2 else row for row in grid(3, [0, 1], 2)
    ]
    rows = read_results(write_rows(folder, changed))
    with pytest.raises(SpecError, match="4 of 12 rows have no score"):
        read_scores(folder, "good", rows)


def test_scores_of_other_settings_are_refused_and_can_be_replaced(folder: Path) -> None:
    rows = read_results(folder)
    write(folder, rows)
    other = {**SETTINGS, "scale": 2.0}
    with pytest.raises(SpecError, match="other settings of the scorer") as caught:
        ScoresFile(folder, "good", other)
    assert "--overwrite" in str(caught.value.hint)
    with ScoresFile(folder, "good", other, overwrite=True) as file:
        assert file.missing(rows) == rows
        assert read_scores(folder, "good", rows).values[3] == 3.0  # until there is a new one
        for row in rows:
            file.add(row, Scored(-1.0))
    assert read_scores(folder, "good", rows).values == [-1.0] * 12


def test_no_score_is_told_from_a_missing_one(folder: Path) -> None:
    rows = read_results(folder)[:2]
    with ScoresFile(folder, "good", SETTINGS) as file:
        file.add(rows[0], Scored(None, {"why": "no answer"}))
        file.add(rows[1], Scored(2.0))
    first, second = read_scores(folder, "good", rows).values
    assert math.isnan(first) and second == 2.0


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(folder: Path, score: float) -> None:
    rows = read_results(folder)
    with ScoresFile(folder, "good", SETTINGS) as file:
        with pytest.raises(SpecError, match=f"prompt 0, h=0, sample 0: the score is {score}"):
            file.add(rows[0], Scored(score))
        assert file.missing(rows) == rows


def test_two_cannot_score_under_one_name_at_a_time(folder: Path) -> None:
    with ScoresFile(folder, "good", SETTINGS):
        with pytest.raises(SpecError, match="another process is writing"):
            ScoresFile(folder, "good", SETTINGS)
        ScoresFile(folder, "better", SETTINGS).close()


def test_a_name_that_is_not_there_is_told_with_the_nearest(folder: Path) -> None:
    rows = read_results(folder)
    with pytest.raises(SpecError, match="there are no scores `good`") as caught:
        read_scores(folder, "good", rows)
    assert "arith score-sweep" in str(caught.value.hint)
    write(folder, rows, "helpful")
    with pytest.raises(SpecError, match="there are helpful") as caught:
        read_scores(folder, "helpfull", rows)
    assert caught.value.hint == "did you mean `helpful`?"


@pytest.mark.parametrize(
    "line", ['{"score": 1}', '{"row": "a", "score": "1"}', '{"row": "a"}', '{"row": 1, "score": 1}']
)
def test_a_line_that_is_no_score_is_named(folder: Path, line: str) -> None:
    write(folder, read_results(folder))
    path = folder / "scores" / "good.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SpecError, match="not a score") as caught:
        read_scores(folder, "good", [])
    assert f"{path}:13: " in caught.value.message


def test_scores_of_a_results_file_lie_beside_it(folder: Path) -> None:
    rows = read_results(folder)
    write(folder, rows)
    assert read_scores(folder / "results.jsonl", "good", rows) == read_scores(folder, "good", rows)
    (folder / "results.jsonl").rename(folder / "base.jsonl")
    assert score_names(folder / "base.jsonl") == []  # of other files of the folder


def test_scoring_anew_leaves_the_scores_of_other_files_of_the_folder(folder: Path) -> None:
    files = [folder / "base.jsonl", folder / "arm.jsonl"]
    for number, file in enumerate(files):
        write_rows(folder, [sweep_row(place, text=f"text {number}") for place in range(2)]).joinpath(
            "results.jsonl"
        ).rename(file)
        rows = read_results(file)
        with ScoresFile(file, "good", {"scale": number}, overwrite=True) as scores:
            assert scores.missing(rows) == rows
            for row in rows:
                scores.add(row, Scored(float(number)))
    assert [read_scores(file, "good", read_results(file)).values for file in files] == [[0, 0], [1, 1]]


def test_a_score_against_a_row_that_is_another_now_is_missing(folder: Path) -> None:
    rows = read_results(folder)[:2]

    def score(reference: str) -> list[ResultRow]:
        with ScoresFile(folder, "good", SETTINGS) as file:
            missing = file.missing(rows, lambda row: reference if row is rows[0] else "same")
            for row in missing:
                kept = reference if row is rows[0] else "same"
                file.add(row, Scored(float(len(reference)), None, kept))
        return missing

    assert score("a") == rows and score("a") == []
    assert score("bb") == rows[:1] and score("bb") == []
    assert read_scores(folder, "good", rows).values == [2.0, 1.0]
    assert score("a") == rows[:1]  # the last one counts
    assert read_scores(folder, "good", rows).values == [1.0, 1.0]
