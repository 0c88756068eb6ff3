"""`arith score`: log-likelihoods of completions, by row."""

import json
from pathlib import Path
from typing import Any

import pytest

from arith import Engine
from tests.cli.conftest import Arith, Spec

ROWS: list[dict[str, Any]] = [
    {"prompt": "one", "completion": " is a number", "id": 1},
    {"prompt": "two", "completion": ""},
    {"prompt": "one", "completion": " is a word"},
]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def test_totals_are_those_of_the_engine(arith: Arith, spec: Spec, lines: Path) -> None:
    path = spec("base + alpha*other", base={}, other={"template": "Q: {prompt}"})
    result = arith("score", path, "--prompts", lines, "--param", "alpha=0.5")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    expected = Engine.load(path).score(
        [str(row["prompt"]) for row in ROWS], [str(row["completion"]) for row in ROWS], params={"alpha": 0.5}
    )
    assert [row["completion"] for row in rows] == [row["completion"] for row in ROWS]
    assert rows[0]["id"] == 1 and rows[0]["params"] == {"alpha": 0.5}
    for row, score in zip(rows, expected, strict=True):
        assert row["tokens"] == len(score.token_ids)
        assert row["logprobs"] == pytest.approx(score.totals, abs=1e-4)


def test_the_end_of_the_turn_can_be_scored_too(arith: Arith, spec: Spec, lines: Path) -> None:
    result = arith("score", spec(), "--prompts", lines, "--end")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[1]["tokens"] == 1 and rows[1]["logprobs"]["formula"] < 0


def test_a_scoring_run_resumes(arith: Arith, spec: Spec, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ["score", spec(), "--prompts", lines, "--out", out]
    assert arith(*words).exit_code == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: whole.index(b"\n") + 20])
    assert arith(*words).exit_code == 2
    assert arith(*words, "--resume").exit_code == 0
    assert out.read_bytes() == whole
