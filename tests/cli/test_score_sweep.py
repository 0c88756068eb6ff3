"""`arith score-sweep` in this process: numbers kept beside the texts, and their means at each point."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arith.cli.score_sweep import agree_to_pay
from arith.errors import OptionError
from arith.study.results import read_results
from arith.study.scores import read_scores
from tests.cli.conftest import Arith, refused
from tests.study.written_rows import grid, sweep_row, write_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {**row, "token_ids": [1] * (4 if row["point"]["h"] else 1 + row["prompt_id"])}
        for row in grid(3, [1, 0], 2)
    ]
    return write_rows(tmp_path / "out", rows)


def test_the_table_has_a_line_a_point_with_means_over_its_rows(arith: Arith, folder: Path) -> None:
    done = arith("score-sweep", folder, "--with", "length", "--with", "distinct_1")
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [["0", "6", "2 [1, 3]", "1 [1, 1]"], ["1", "6", "4 [4, 4]", "1 [1, 1]"]]
    for name in ("length", "distinct_1", "rows", "95% intervals"):
        assert name in done.stdout
    assert "length: 12 texts" in done.stderr


def test_the_same_command_scores_only_what_is_missing(arith: Arith, folder: Path) -> None:
    arith("score-sweep", folder, "--with", "length")
    file = folder / "scores" / "length.jsonl"
    before = file.read_bytes()
    assert "nothing to do" in arith("score-sweep", folder, "--with", "length").stderr
    assert file.read_bytes() == before
    write_rows(folder, grid(4, [1, 0], 2))
    done = arith("score-sweep", folder, "--with", "length")
    assert done.exit_code == 0 and file.read_bytes().startswith(before)
    assert len(file.read_text().splitlines()) == 16


def test_what_cannot_be_scored_is_refused(arith: Arith, folder: Path, tmp_path: Path) -> None:
    refused(
        arith("score-sweep", tmp_path, "--with", "length"), "the folder holds no sweep", "arith sweep SPEC"
    )
    refused(arith("score-sweep", folder, "--with", "lenght"), "did you mean `length`?")
    refused(arith("score-sweep", folder, "--with", "length", "--max-rows", "0"), "max_rows")


def test_other_settings_are_refused_until_overwritten(arith: Arith, folder: Path, tmp_path: Path) -> None:
    scorers = tmp_path / "scorers.yaml"
    scorers.write_text("mine: {kind: distinct_1}")
    arith("score-sweep", folder, "--with", scorers)
    scorers.write_text("mine: {kind: length}")
    refused(arith("score-sweep", folder, "--with", scorers), "other settings", "--overwrite")
    assert arith("score-sweep", folder, "--with", scorers, "--overwrite").exit_code == 0
    assert read_scores(folder, "mine", read_results(folder)).values[0] == 4.0


def test_a_failing_function_keeps_what_was_done(arith: Arith, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "failing_scores.py").write_text("def f(row):\n    return 1 / (row.prompt_id - 1)\n")
    scorers = tmp_path / "scorers.yaml"
    scorers.write_text("mine: {kind: python, function: 'failing_scores:f'}")
    refused(
        arith("score-sweep", folder, "--with", scorers), "prompt 1, h=1", "ZeroDivisionError", "mine: 4 texts"
    )
    assert len((folder / "scores" / "mine.jsonl").read_text().splitlines()) == 4


def test_killed_at_any_moment_it_goes_on_with_nothing_lost_and_nothing_twice(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow_scores.py").write_text(
        "import time\ndef f(row):\n    time.sleep(0.03)\n    return len(row.text)\n"
    )
    (tmp_path / "scorers.yaml").write_text("mine: {kind: python, function: 'slow_scores:f'}")
    command = [
        sys.executable,
        "-m",
        "arith",
        "score-sweep",
        str(folder),
        "--with",
        str(tmp_path / "scorers.yaml"),
    ]
    file = folder / "scores" / "mine.jsonl"
    rng = random.Random(5)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        before = file.stat().st_size if file.exists() else 0
        while (not file.exists() or file.stat().st_size == before) and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None
        time.sleep(rng.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    rows = read_results(folder)
    assert read_scores(folder, "mine", rows).values == [float(len(row.text)) for row in rows]
    keys = [json.loads(line)["row"] for line in file.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 12


def test_formulas_are_points_and_rows_without_a_score_are_told(arith: Arith, tmp_path: Path) -> None:
    rows = [
        sweep_row(number, point={"formula": name}, text=text)
        for number, texts in enumerate([("one", "a b c d"), ("a a a a a a", "x x x x x")])
        for name, text in zip(("plain", "guided"), texts, strict=True)
    ]
    done = arith("score-sweep", write_rows(tmp_path / "out", rows), "--with", "repetition")
    assert done.exit_code == 0, done.output
    cells = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    assert ["", "guided", "2", "0.25 [0, 0.5]", ""] in cells
    assert ["", "plain", "2", "0.6667 (over 1)", ""] in cells


def test_what_costs_money_needs_a_yes() -> None:
    agree_to_pay(0.0, yes=False)
    agree_to_pay(3.5, yes=True)
    with pytest.raises(OptionError, match=r"scoring costs up to 3\.5"):
        agree_to_pay(3.5, yes=False)
