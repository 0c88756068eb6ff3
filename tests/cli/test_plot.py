"""`arith plot`: what is printed and written, and what it refuses."""

from pathlib import Path

import pytest

from tests.cli.conftest import Arith, refused
from tests.study.swept import write_results, write_scores

FILES = ["frontier.html", "frontier.png", "frontier.svg"]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = write_results(tmp_path / "grid", [{"h": 0.0}, {"h": 0.5}, {"h": 1.0}], ["a", "b"])
    write_scores(folder, "good", [1, 2, 3, 1, 2, 3])
    write_scores(folder, "length", [10, 30, 20, 10, 30, 20])
    return folder


def test_the_table_the_area_and_the_pick_are_printed_and_three_files_written(
    arith: Arith, sweep: Path
) -> None:
    result = arith("plot", sweep, "--x", "good", "--y", "-length", "--prefer", "good - length/8")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:-1] for line in result.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["h=0", "1 [1, 1]", "10 [10, 10]", "-0.25", "yes"],
        ["h=0.5", "2 [2, 2]", "30 [30, 30]", "-1.75", ""],
        ["h=1", "3 [3, 3]", "20 [20, 20]", "0.5", "yes"],
    ]
    assert "hypervolume, from good=1, length=30 (the worst means):\n  grid  20 [20, 20]" in result.stdout
    assert "best by good - length/8: h=1 (0.5)" in result.stdout
    for name in FILES:
        assert f"wrote {sweep / name}" in result.stdout and (sweep / name).stat().st_size > 1000


def test_what_stands_beside_is_compared_over_the_prompts_that_both_have(
    arith: Arith, sweep: Path, tmp_path: Path
) -> None:
    soup = write_results(tmp_path / "soup", [{"formula": "soup"}], ["b", "a", "elsewhere"])
    write_scores(soup, "good", [2, 2, 100])
    write_scores(soup, "length", [15, 15, 0])
    write_results(sweep, [{"h": 0.0}, {"h": 0.5}, {"h": 1.0}], ["a", "b", "c", "d"])
    write_scores(sweep, "good", [1, 2, 3] * 2 + [50] * 6)
    write_scores(sweep, "length", [10, 30, 20] * 2 + [0] * 6)
    out = tmp_path / "new" / "pictures"
    words = ("--x", "good", "--y", "-length", "--beside", f"my soup={soup}", "--out", out)
    result = arith("plot", sweep, *words, "--reference", "good=0", "--reference", "length=40")
    assert result.exit_code == 0, result.output
    assert f"{sweep}: 2 of 4 prompts aren't in all that is compared" in result.stderr
    assert f"{soup}: 1 of 3 prompts aren't in all that is compared" in result.stderr
    assert "hypervolume, from good=0, length=40:\n" in result.stdout
    assert "  grid     70 [70, 70]\n" in result.stdout  # 1*30 + 2*20
    assert "  my soup  50 [50, 50]   grid minus my soup: 20 [20, 20]" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_the_pick_can_be_named_as_it_is_told(arith: Arith, tmp_path: Path) -> None:
    sweep = write_results(tmp_path / "grid", [{"h": 0.1234567}, {"h": 0.1234568}], ["a"])
    write_scores(sweep, "good", [1, 2])
    write_scores(sweep, "length", [1, 1])
    assert "best by good: h=0.1234568 (2)" in arith("plot", sweep, "--prefer", "good").stdout


def test_a_point_beside_without_a_value_of_what_is_preferred_is_shown_without_one(
    arith: Arith, sweep: Path, tmp_path: Path
) -> None:
    soup = write_results(tmp_path / "soup", [{"h": 1.0}, {"h": 2.0}], ["a", "b"])
    for name in ("good", "length"):
        write_scores(soup, name, [1, 2] * 2)
    write_scores(soup, "kind", [None, 3] * 2)
    write_scores(sweep, "kind", [1, 2, 3] * 2)
    words = ("--x", "good", "--y", "length", "--prefer", "kind + good", "--beside", f"soup={soup}")
    result = arith("plot", sweep, *words)
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    assert [row[4:6] for row in rows if row and row[0] == "soup"] == [["none", ""], ["3 [3, 3]", "5"]]
    assert "nan" not in result.output.lower()


def test_other_prompts_alone_are_nothing_to_compare_with(arith: Arith, sweep: Path, tmp_path: Path) -> None:
    soup = write_results(tmp_path / "soup", [{"formula": "soup"}], ["elsewhere"])
    for name in ("good", "length"):
        write_scores(soup, name, [1])
    refused(arith("plot", sweep, "--beside", f"soup={soup}"), f"no prompt is one of {sweep} and of {soup}")


def test_scores_that_other_settings_made_are_told(arith: Arith, sweep: Path, tmp_path: Path) -> None:
    soup = write_results(tmp_path / "soup", [{"formula": "soup"}], ["a", "b"])
    write_scores(soup, "length", [1, 2])
    write_scores(soup, "good", [1, 2], scorer="another")
    result = arith("plot", sweep, "--beside", f"soup={soup}")
    assert result.exit_code == 0
    assert "soup: `good` was made by other settings than that of grid" in result.stderr
    assert "`length` was made" not in result.stderr


def test_two_scores_that_are_the_only_ones_need_no_names(arith: Arith, sweep: Path) -> None:
    assert arith("plot", sweep).exit_code == 0
    write_scores(sweep, "third", [0] * 6)
    refused(arith("plot", sweep), "--x and --y name the two scores", "there are good, length, third")
    refused(arith("plot", sweep, "--x", "good"), "--x and --y name the two scores")


def test_results_of_generate_are_plotted_too(arith: Arith, sweep: Path) -> None:
    write_results(sweep, [{}], ["a", "b"])  # of a formula without parameters
    write_scores(sweep, "good", [1, 3])
    write_scores(sweep, "length", [5, 5])
    result = arith("plot", sweep / "results.jsonl", "--x", "good", "--y", "length")
    assert result.exit_code == 0 and (sweep / "frontier.png").exists()
    assert "│ the only point │   2 [1, 3] │" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--x", "god", "--y", "length"], ["no scores `god`", "did you mean `good`?"]),
        (["--x", "good", "--y", "-good"], ["--x and --y are both `good`"]),
        (["--x", "good", "--y", "-"], ["`-` names no score"]),
        (["--prefer", "goodness"], ["no scores `goodness`"]),
        (["--prefer", "good +"], ["the formula ends after `+`", "^"]),
        (["--prefer", "3"], ["the preference `3` names no score"]),
        (["--prefer", "good / (length - length)"], ["at a point with good=1, length=10", "division by zero"]),
        (["--beside", "soup"], ["--beside soup: must be LABEL=DIR"]),
        (["--beside", "grid=nowhere"], ["there are two series called `grid`"]),
        (["--beside", "soup=nowhere"], ["nowhere: no such file or folder"]),
        (
            ["--reference", "good=nan", "--reference", "length=0"],
            ["good=nan: an area is measured from a finite"],
        ),
        (["--prefer", " "], ["the preference is empty", "helpful + 2*harmless"]),
        (["--reference", "good=1"], ["give both: --reference good=0 --reference length=0"]),
        (["--reference", "good=1", "--reference", "good=2"], ["`good` is given twice"]),
        (["--reference", "good=x", "--reference", "length=2"], ["--reference good=x: `x` isn't a number"]),
        (["--out", "FILE"], ["can't be a folder"]),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(
    arith: Arith, sweep: Path, words: list[str], expected: list[str]
) -> None:
    words = [str(sweep / "results.jsonl") if word == "FILE" else word for word in words]
    refused(arith("plot", sweep, *words), *expected)
    assert not any((sweep / name).exists() for name in FILES)


def test_rows_without_a_score_are_named_with_the_way_to_go_on(arith: Arith, sweep: Path) -> None:
    write_scores(sweep, "good", [1, 2, 3, 1])
    words = ["2 of 6 rows have no score", "prompt 1, h=0.5, sample 0", f"arith score-sweep {sweep}"]
    refused(arith("plot", sweep), *words)


def test_a_folder_without_results_or_scores_is_refused(arith: Arith, sweep: Path, tmp_path: Path) -> None:
    refused(arith("plot", tmp_path), "the folder holds no sweep")
    bare = write_results(tmp_path / "bare", [{"h": 0.0}], ["a"])
    refused(arith("plot", bare), "--x and --y name", f"arith score-sweep {bare}")
