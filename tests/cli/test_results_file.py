"""Results files: nothing is lost or written twice, and nothing is overwritten unasked."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from arith.errors import OptionError, SpecError
from arith.results_file import ResultsFile, finite_or_none, row_key


def row(prompt: str, sample: int = 0, occurrence: int = 0, **more: object) -> dict[str, object]:
    return {"prompt": prompt, "params": {"alpha": 0.5}, "occurrence": occurrence, "sample": sample, **more}


def rows_in(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_row_is_on_disk_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, run="r") as file:
        file.append(row("één\u2028"))
        assert rows_in_bytes(path) == [row("één\u2028", run="r")]


def rows_in_bytes(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_differ_by_prompt_fields_params_repetition_and_sample() -> None:
    rows = [
        row("a"), row("b"), row("a", sample=1), row("a", occurrence=1), row("a", params={"alpha": 0.6}),
        row("a", fields={"context": "c"}), row("a", completion="x"),
    ]  # fmt: skip
    assert len({row_key(one) for one in rows}) == len(rows)
    assert row_key(row("a", id=1, text="x", logprobs={})) == row_key(row("a"))


def test_an_existing_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    with pytest.raises(SpecError, match="exists already") as raised:
        ResultsFile(path, run="r")
    assert "--resume" in str(raised.value) and "--overwrite" in str(raised.value)
    assert path.read_text() == "precious"


def test_overwriting_drops_the_old_rows_only_when_there_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with ResultsFile(path, run="r", overwrite=True) as file:
        assert path.read_text() == "old\n"
        file.append(row("a"))
    assert rows_in(path) == [row("a", run="r")]


def test_resuming_keeps_whole_rows_and_cuts_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, run="r") as file:
        file.append(row("a"))
        file.append(row("b"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        with ResultsFile(path, run="r", resume=True) as again:
            assert again.done == {row_key(row("a"))}
            again.append(row("b"))
        assert path.read_bytes() == whole


def test_a_torn_line_is_repaired_even_when_no_row_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    line = json.dumps(row("a", run="r")) + "\n"
    path.write_text(line + '{"pro')
    ResultsFile(path, run="r", resume=True)
    assert path.read_text() == line


def test_resuming_a_file_that_is_not_there_starts_it(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.jsonl", run="r", resume=True) as file:
        assert not file.done
        file.append(row("a"))
    assert rows_in(tmp_path / "out.jsonl") == [row("a", run="r")]


@pytest.mark.parametrize("bad", ["not json", "[]", '{"a": 1}', "", "\xff"])
def test_a_foreign_line_in_a_file_to_resume_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes((json.dumps(row("a", run="r")) + f"\n{bad}\n").encode("latin-1"))
    with pytest.raises(SpecError, match=r"out\.jsonl:2: not a row of results"):
        ResultsFile(path, run="r", resume=True)


def test_rows_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, run="one") as file:
        file.append(row("a"))
    with pytest.raises(SpecError, match=r"out\.jsonl:1: .*another formula"):
        ResultsFile(path, run="two", resume=True)


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="doesn't exist"):
        ResultsFile(tmp_path / "no" / "out.jsonl", run="r")
    with pytest.raises(SpecError, match="is a folder"):
        ResultsFile(tmp_path, run="r")
    with pytest.raises(OptionError, match="give one"):
        ResultsFile(tmp_path / "out.jsonl", run="r", resume=True, overwrite=True)


def test_a_row_with_a_number_that_json_lacks_is_a_bug_and_not_written(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.jsonl", run="r") as file, pytest.raises(ValueError, match="JSON"):
        file.append(row("a", logprobs={"base": float("-inf")}))
    assert not (tmp_path / "out.jsonl").exists()
    assert finite_or_none(float("-inf")) is None and finite_or_none(-1.5) == -1.5


WRITER = """
import sys
from pathlib import Path
from arith.results_file import ResultsFile, row_key
with ResultsFile(Path(sys.argv[1]), run="r", resume=True) as file:
    for number in range(300):
        row = {"prompt": f"p{number}", "params": {}, "occurrence": 0, "sample": 0, "text": "x" * 2000}
        if row_key(row) not in file.done:
            file.append(row)
            print(number, flush=True)
"""


def test_killed_at_any_moment_nothing_is_lost_or_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for stop_after in (1, 40, 90):
        command = [sys.executable, "-c", WRITER, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(stop_after):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, stdout=subprocess.DEVNULL)
    expected = sorted(f"p{number}" for number in range(300))
    assert sorted(str(one["prompt"]) for one in rows_in(path)) == expected
