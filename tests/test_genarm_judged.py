"""The experiments of GenARM in examples/genarm: written by small models, judged by a server of the tests."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.stand_in import StandIn, by_length
from tests.test_genarm import arith, path_of

PROMPTS = ("Why?", "How?")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with StandIn(by_length()) as server:
        yield server


def generated(name: str, folder: Path, *words: object) -> Path:
    """What the experiment writes, over the prompts: a folder of a sweep or a file."""
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    command, out = words[0], folder / f"out{len(list(folder.glob('out*')))}"
    out = out if command == "sweep" else out.with_suffix(".jsonl")
    further = ("--prompts", folder / "prompts.txt", "--out", out, "--max-new-tokens", 6, *words[1:])
    arith(command, path_of(name), *further)
    return out


def judged_by(name: str, folder: Path, judge: StandIn) -> Path:
    """The file of the judge, or of scorers, with the server in the place of its own."""
    text = path_of(name).read_text()
    assert "https://api.openai.com/v1" in text
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("https://api.openai.com/v1", judge.url))
    return path


def test_hh_rlhf_has_a_win_rate(
    judge: StandIn, tmp_path: Path, tiny_llama: str, tiny_llama_other: str
) -> None:
    models = [f"--model={name}={tiny_llama_other}" for name in ("arm", "dpo")]
    out = generated("hh-rlhf", tmp_path, "sweep", f"--model=base={tiny_llama}", *models)
    file = judged_by("hh-rlhf-judge", tmp_path, judge)
    for number, other in enumerate(("dpo", "base"), start=1):
        points = ("--point", "formula=genarm", "--reference-point", f"formula={other}")
        told = arith("win-rate", out, out, "--judge", file, *points, "--yes").stdout
        assert "win rate" in told and "none" not in told
        assert len(judge.bodies) == number * len(PROMPTS)  # one order of each pair, drawn at random
    assert {(body["model"], body["temperature"]) for body in judge.bodies} == {("gpt-4", 0.7)}


@pytest.mark.parametrize("name", ["safe-rlhf", "safe-rlhf-65b"])
def test_safe_rlhf_is_scored_by_both_criteria(
    judge: StandIn, tmp_path: Path, tiny_llama: str, tiny_llama_other: str, name: str
) -> None:
    models = [f"--model={one}={tiny_llama_other}" for one in ("helpful", "harmless")]
    out = generated(name, tmp_path, "sweep", f"--model=base={tiny_llama}", *models)
    scorers = judged_by("safe-rlhf-scorers", tmp_path, judge)
    table = arith("score-sweep", out, "--with", scorers, "--yes").stdout
    assert "helpful" in table and "harmless" in table
    assert len(judge.bodies) == 2 * 2 * len(PROMPTS)  # two points beside the base, two criteria
    for criterion in ("helpful", "harmless"):
        rows = [json.loads(line) for line in (out / "scores" / f"{criterion}.jsonl").read_text().splitlines()]
        at_base = [row["score"] for row in rows if set(row["point"].values()) == {0}]
        assert len(rows) == 3 * len(PROMPTS) and at_base == [0.5] * len(PROMPTS)


def test_alpaca_eval_of_70b_has_a_win_rate(
    judge: StandIn, tmp_path: Path, tiny_llama: str, tiny_llama_other: str
) -> None:
    models = (f"--model=base={tiny_llama}", f"--model=arm={tiny_llama_other}")
    sides = [
        generated("alpaca-eval-70b", tmp_path, "generate", "--param", f"alpha={alpha}", *models)
        for alpha in (1, 0)
    ]
    file = judged_by("alpaca-eval-judge", tmp_path, judge)
    told = arith("win-rate", *sides, "--judge", file, "--length-controlled", "--yes").stdout
    assert "at equal lengths" in told and len(judge.bodies) == 2 * len(PROMPTS)  # both orders
