"""`arith sweep`: every row once, whatever happens meanwhile, and no row of anything else."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import arith.runtime
from arith import Engine
from arith.spec import Spec as Document
from tests.cli.conftest import Arith, Sweep, refused

ROOT = Path(__file__).resolve().parents[2]
# Processes that have what is slow to import.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(
    ["transformers.models.llama.modeling_llama", "peft", "arith.cli.app", "arith.runtime.engine"]
)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of a sweep in an order of their own."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    named = ("prompt", "occurrence", "point", "sample")
    return sorted(rows, key=lambda row: json.dumps([row[name] for name in named]))


def test_rows_hold_what_the_engine_gives_at_each_point(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    words, out = swept(), tmp_path / "out"
    result = arith(*words, "--out", out, "--samples", 2)
    assert result.exit_code == 0 and result.stdout == "", result.stderr
    assert "18 rows" in result.stderr and str(out / "results.jsonl") in result.stderr
    engine, rows = Engine.load(tmp_path / "spec.yaml"), rows_in(out)
    assert len(rows) == 18
    for h in (0, 0.5, 1):
        params = {"h": h, "s": 1 - h}
        for one in engine.generate(["one", "two", "one"], params=params, num_return_sequences=2):
            head = {"prompt_id": one.index, "occurrence": int(one.index == 2), "sample": one.sample}
            row = next(row for row in rows if row["point"] == params and head.items() <= row.items())
            assert row["token_ids"] == one.token_ids and row["text"] == one.text and row["seed"] == 3
            for name, total in row["logprobs"].items():
                silent = (name == "help" and h == 0) or (name == "harm" and h == 1)
                assert total is None if silent else total == pytest.approx(sum(one.logprobs[name]), abs=1e-3)
    assert len({row["run"] for row in rows}) == 1


def test_the_folder_holds_the_resolved_specification(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    import torch

    words = swept(params={"whole": 2}, sweep={"h": [0, 1], "s": "whole - h"})
    assert arith(*words, "--out", tmp_path / "out", "--param", "whole=3", "--seed", 8).exit_code == 0
    written = Document.load(tmp_path / "out")
    assert written.params == {"whole": 3} and written.sampling.seed == 8
    assert [dict(point.values) for point in written.swept()[1]] == [{"h": 0, "s": 3}, {"h": 1, "s": 2}]
    assert f"torch: {torch.__version__}" in (tmp_path / "out" / "spec.yaml").read_text()
    again = arith("sweep", tmp_path / "out", *words[2:], "--out", tmp_path / "out")
    assert again.exit_code == 0 and "nothing to do" in again.stderr


def test_the_same_command_runs_missing_rows_only(
    arith: Arith, swept: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, out = [*swept(), "--samples", 2], tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    whole, file = rows_in(out), out / "results.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in ([0, 3, 17], [], list(range(17))):
        file.write_bytes(b"".join(lines[index] for index in kept) + lines[5][:40])
        result = arith(*words, "--out", out)
        assert result.exit_code == 0 and f"{18 - len(kept)} row" in result.stderr
        found = rows_in(out)
        for row, expected in zip(found, whole, strict=True):
            assert row["logprobs"] == pytest.approx(expected["logprobs"], abs=1e-3)
            assert {**row, "logprobs": None} == {**expected, "logprobs": None}
    monkeypatch.setattr(arith_runtime(), "Engine", None)
    before = file.read_bytes()
    assert "nothing to do" in arith(*words, "--out", out).stderr and file.read_bytes() == before


def arith_runtime() -> Any:
    return arith.runtime


def test_more_samples_and_more_prompts_go_into_the_same_folder(
    arith: Arith, swept: Sweep, tmp_path: Path
) -> None:
    words, out = swept(), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    first = rows_in(out)
    assert "18 rows" in arith(*words, "--out", out, "--samples", 3).stderr
    (tmp_path / "prompts.txt").write_text("three\none\ntwo\none\n")
    assert "9 rows" in arith(*words, "--out", out, "--samples", 3).stderr
    rows = rows_in(out)
    assert len(rows) == 36 and all(row in rows for row in first)
    assert (
        len({json.dumps([row[n] for n in ("prompt", "occurrence", "point", "sample")]) for row in rows}) == 36
    )
    names = {(row["prompt"], row["occurrence"], row["prompt_id"]) for row in rows}
    assert names == {("one", 0, 0), ("two", 0, 1), ("one", 1, 2), ("three", 0, 4)}


def test_a_lock_left_by_a_dead_process_does_not_block(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    words, out = swept(), tmp_path / "out"
    out.mkdir()
    lock = out / "results.jsonl.lock"
    code = (
        f"import filelock, time; lock = filelock.FileLock({str(lock)!r}); lock.acquire(); "
        "print('held', flush=True); time.sleep(99)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    try:
        refused(arith(*words, "--out", out), "another process is writing")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert lock.exists() and arith(*words, "--out", out).exit_code == 0 and len(rows_in(out)) == 9


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_no_row_is_lost_or_written_twice(
    arith: Arith, swept: Sweep, tmp_path: Path, kills: int
) -> None:
    words = [*swept(sampling={"max_new_tokens": 3}), "--samples", 40, "--max-rows", 3]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert arith(*words, "--out", whole).exit_code == 0
    kept: list[bytes] = []
    for moment in kill_moments(kills):
        process = FRESH.Process(target=run_in_silence, args=([str(word) for word in (*words, "--out", out)],))
        process.start()
        deadline = time.monotonic() + 60
        while len(whole_lines(out)) < len(kept) + moment.rows:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moment.seconds)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = whole_lines(out)
        assert found[: len(kept)] == kept and len(set(found)) == len(found)
        kept = found
    assert len(kept) < 360 and arith(*words, "--out", out).exit_code == 0
    assert whole_lines(out)[: len(kept)] == kept
    names = ("prompt", "occurrence", "point", "sample", "token_ids")
    assert [[row[n] for n in names] for row in rows_in(out)] == [
        [row[n] for n in names] for row in rows_in(whole)
    ]


def whole_lines(folder: Path) -> list[bytes]:
    path = folder / "results.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def kill_moments(count: int) -> Iterator["Moment"]:
    """Behind so many new rows and seconds; without any new row at times, be it while the models load."""
    drawn = random.Random(7)
    for _ in range(count):
        yield Moment(drawn.randrange(6), drawn.random() * 0.05)


class Moment(NamedTuple):
    rows: int
    seconds: float


def run_in_silence(words: list[str]) -> None:
    """The command, in a process of its own."""
    from arith.cli.app import app

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    app(words)


@pytest.mark.parametrize(
    ("further", "words"),
    [
        (["--param", "h=1"], ["`h` is swept: its value can't be given"]),
        (["--param", "hh=1"], ["the sweep has no parameter `hh`"]),
        (["--samples", "0"], ["num_return_sequences"]),
        (["--samples", "9999999"], ["3 prompts, 3 points and 9,999,999 samples make 89,999,991 rows"]),
        (["--workers", "2"], ["--workers is about a cluster", "--ray"]),
    ],
)
def test_bad_words_are_refused(
    arith: Arith, swept: Sweep, tmp_path: Path, further: list[str], words: list[str]
) -> None:
    refused(arith(*swept(), "--out", tmp_path / "out", *further), *words)
    assert not list(tmp_path.glob("out/results.jsonl*"))


@pytest.mark.parametrize(
    ("further", "words"),
    [
        (
            ["--workers", "2", "--ray", "nowhere"],
            ["--ray nowhere: not the address of a cluster", "HOST:PORT"],
        ),
        (["--ray", "ray://here:1"], ["not the address of a cluster"]),
        (["--ray", "127.0.0.1:1"], ["no Ray cluster answers", "ray start"]),
    ],
)
def test_a_cluster_that_is_not_there_is_told(
    arith: Arith, swept: Sweep, tmp_path: Path, further: list[str], words: list[str]
) -> None:
    pytest.importorskip("ray")
    result = arith(*swept(), "--out", tmp_path / "out", *further)
    refused(result, *words)
    assert "0 rows" not in result.stderr
    assert not list(tmp_path.glob("out/results.jsonl*"))


def test_without_ray_its_package_is_asked_for(
    arith: Arith, swept: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("--ray needs the package ray", "pip install 'arith[ray]'")
    result = arith(*swept(), "--out", tmp_path / "out", "--ray", "127.0.0.1:1")
    refused(result, *words)
    assert "0 rows" not in result.stderr


def test_values_that_the_specification_lacks_are_given_on_the_command_line(
    arith: Arith, swept: Sweep, tmp_path: Path
) -> None:
    words = swept(sweep={"h": [0, 1], "s": "whole - h"}, formula="base + h*help + s*harm + w*help")
    told = arith("check", words[1]).stdout
    assert "sweep: points of h, s, once there are values of w, whole" in told and "parameter w: to be" in told
    refused(arith(*words, "--out", tmp_path / "out", "--param", "w=1"), "`whole` has no value")
    given = ("--param", "whole=3", "--param", "w=0.5")
    assert arith(*words, "--out", tmp_path / "out", *given).exit_code == 0
    assert {row["point"]["s"] for row in rows_in(tmp_path / "out")} == {3, 2}


def test_a_params_file_gives_what_any_of_the_swept_formulas_uses(
    arith: Arith, swept: Sweep, tmp_path: Path
) -> None:
    words = swept(sweep={"formula": {"one": "base", "two": "base + w*help"}}, formula="base")
    file = tmp_path / "params.yaml"
    file.write_text("w: 2\n")
    assert arith(*words, "--out", tmp_path / "out", "--params", file).exit_code == 0
    file.write_text("v: 2\n")
    refused(arith(*words, "--out", tmp_path / "out", "--params", file), "params.yaml:1", "no parameter `v`")


def test_a_specification_without_a_sweep_is_refused(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    words = swept(sweep=None, params={"h": 1, "s": 1})
    refused(arith(*words, "--out", tmp_path / "out"), "there is no `sweep`", "sweep: {alpha: [0, 0.5, 1]}")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("x")
    refused(arith(*swept(), "--out", tmp_path / "file"), "can't be a folder")


def test_check_tells_the_points(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    path = swept()[1]
    said = arith("check", path).stdout
    assert "sweep: 3 points of h, s" in said and "parameter h" not in said
    swept(sweep={"formula": {"a": "base + h*help", "b": "base - harm"}, "h": [0.5, 1]}, params={"s": 1})
    said = arith("check", path).stdout
    assert "sweep: 3 points of formula, h" in said and "3 lanes a row (base, help, harm)" in said
