"""Answers as AlpacaEval reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import arith as arith
from tests.cli.conftest import refused
from tests.study.judged_results import write_results

TEXTS = [["Ü first", "second"], ["third"]]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    for h in (0.0, 1.0):
        texts = [[f"{text} {h:g}" for text in samples] for samples in TEXTS]
        path = write_results(folder / "results.jsonl", texts, point={"h": h}, dataset="koala")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n")  # rows stand in the order in which they were done
    return folder


def test_one_answer_an_instruction_in_the_order_of_the_prompts(
    arith: Any, sweep: Path, tmp_path: Path
) -> None:
    out = tmp_path / "outputs.json"
    words = ["alpaca-outputs", sweep, "--out", out, "--generator", "tulu + arm"]
    refused(arith(*words), "holds rows of 2 points")
    result = arith(*words, "--point", "h=1")
    assert result.exit_code == 0 and "2 answers in" in result.stderr and "1 further" in result.stderr
    assert json.loads(out.read_text(encoding="utf-8")) == [
        {"dataset": "koala", "instruction": "prompt 0", "output": "Ü first 1", "generator": "tulu + arm"},
        {"dataset": "koala", "instruction": "prompt 1", "output": "third 1", "generator": "tulu + arm"},
    ]
    refused(arith(*words, "--point", "h=0"), "exists already", "--overwrite")
    assert arith(*words, "--point", "h=0", "--overwrite").exit_code == 0
    assert "first 0" in out.read_text(encoding="utf-8")
    refused(arith("alpaca-outputs", sweep, "--out", sweep / "results.jsonl", "--generator", "g",
                  "--point", "h=0", "--overwrite"), "is read by this command")  # fmt: skip


def test_no_prompt_is_dropped_in_silence(arith: Any, sweep: Path, tmp_path: Path) -> None:
    """At h=1 the first sample of prompt 0 isn't there yet, nor any of prompt 1."""
    path, out = sweep / "results.jsonl", tmp_path / "outputs.json"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [row for row in rows if row["point"]["h"] == 0 or row["text"] == "second 1"]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    result = arith("alpaca-outputs", sweep, "--out", out, "--generator", "g", "--point", "h=1")
    assert [one["output"] for one in json.loads(out.read_text())] == ["second 1"]
    assert f"1 prompts of {sweep} have no answer at this point" in result.stderr
    assert "1 answers are later samples" in result.stderr


def test_answers_stand_in_the_order_of_the_prompts_names(arith: Any, tmp_path: Path) -> None:
    path, out = tmp_path / "results.jsonl", tmp_path / "outputs.json"
    write_results(path, [["a"], ["b"], ["c"]])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for names, expected in (
        (["q10", "q2", "p"], "cba"), ([10, 2, 1], "cba"), (["b", 3, "a"], "bca"), ([None] * 3, "abc"),
    ):  # fmt: skip
        named = [{**row, "prompt_id": name} for row, name in zip(rows, names, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in named))
        assert arith("alpaca-outputs", path, "--out", out, "--generator", "g", "--overwrite").exit_code == 0
        assert "".join(one["output"] for one in json.loads(out.read_text())) == expected


def test_the_message_of_a_user_is_an_instruction_and_a_dialogue_is_none(arith: Any, tmp_path: Path) -> None:
    out = tmp_path / "outputs.json"
    user = {"role": "user", "content": "Say hi"}
    path = write_results(tmp_path / "one.jsonl", [["hi"]], prompts=[[user]])
    assert arith("alpaca-outputs", path, "--out", out, "--generator", "g").exit_code == 0
    assert json.loads(out.read_text()) == [{"instruction": "Say hi", "output": "hi", "generator": "g"}]
    long = write_results(tmp_path / "two.jsonl", [["hi"]], prompts=[[user, user, user]])
    result = arith("alpaca-outputs", long, "--out", out, "--generator", "g", "--overwrite")
    refused(result, f"{long}:1", "the prompt has 3 messages")
