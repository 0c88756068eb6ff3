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


def test_a_torn_line_stays_until_there_is_a_row_to_write(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    line = json.dumps(row("a", run="r")) + "\n"
    path.write_text(line + '{"pro')
    with ResultsFile(path, run="r", resume=True) as file:
        assert path.read_text() == line + '{"pro'
        file.append(row("b"))
    assert rows_in(path) == [row("a", run="r"), row("b", run="r")]


@pytest.mark.parametrize("foreign", ["precious", "{}", '{"a": 1', '{"id": 7, "prompt": "x"}', "[1"])
def test_a_foreign_file_without_an_end_of_line_is_no_torn_row(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(foreign)
    with pytest.raises(SpecError, match=r"out\.jsonl:1: (not a row of results|the row comes from another)"):
        ResultsFile(path, run="r", resume=True)
    assert path.read_text() == foreign


def test_a_file_belongs_to_one_writer_at_a_time(tmp_path: Path) -> None:
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    with ResultsFile(path, run="r") as file:
        for other in (path, link):
            for resume, overwrite in ((False, False), (True, False), (False, True)):
                with pytest.raises(SpecError, match=f"{other}: another process is writing to it"):
                    ResultsFile(other, run="r", resume=resume, overwrite=overwrite)
        file.append(row("a"))
    with ResultsFile(path, run="r", resume=True) as file:
        assert file.done == {row_key(row("a"))}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.jsonl", "out.jsonl"]


def test_a_file_that_comes_to_be_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for resume in (False, True):
        with ResultsFile(path, run="r", resume=resume) as file:
            path.write_text("precious\n")
            with pytest.raises(SpecError, match="exists already"):
                file.append(row("a"))
        assert path.read_text() == "precious\n"
        path.unlink()


def test_a_full_disk_is_one_error_and_none_at_the_end() -> None:
    with pytest.raises(SpecError, match="/dev/full: can't be written: no space left on device"):  # noqa: SIM117
        with ResultsFile(Path("/dev/full"), run="r", overwrite=True) as file:
            file.append(row("a"))
    with pytest.raises(SpecError, match="nothing to resume"):
        ResultsFile(Path("/dev/full"), run="r", resume=True)


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
    with pytest.raises(SpecError, match="can't be written there: file name too long"):
        ResultsFile(tmp_path / ("x" * 300), run="r")
    with pytest.raises(SpecError, match="can't be written there: no such file"):
        ResultsFile(Path("/proc/out.jsonl"), run="r")
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
    assert not list(tmp_path.glob("*.lock"))
    expected = sorted(f"p{number}" for number in range(300))
    assert sorted(str(one["prompt"]) for one in rows_in(path)) == expected
