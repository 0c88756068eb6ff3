"""`arith fit`, and the file of values that it writes for `--params`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from arith.params_file import read_params, write_params
from tests.cli.conftest import Arith, Spec, refused
from trainers.fitting import fit

ROWS: list[dict[str, Any]] = [
    {"prompt": "one", "completion": " is a number"},
    {"prompt": "two", "completion": " another one"},
    {"prompt": "", "completion": "three"},
]
OTHER: dict[str, Any] = {"base": {}, "other": {"template": "Q: {prompt}"}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def test_a_fit_is_that_of_python_and_scores_higher(
    arith: Arith, spec: Spec, data: Path, tmp_path: Path
) -> None:
    path, out = spec("base + alpha*other", params={"alpha": 0.0}, **OTHER), tmp_path / "fitted.yaml"
    result = arith("fit", path, "--data", data, "--out", out)
    assert result.exit_code == 0, result.stderr
    expected = fit(path, data)
    values = read_params(out, ["alpha"])
    assert values == pytest.approx(expected.values, abs=1e-6) and values["alpha"] != 0
    assert result.stdout == f"{expected}\n"
    assert "alpha" in result.stdout and "log-likelihood of a token" in result.stdout
    assert "keeping their logits" in result.stderr and "evaluation 1:" in result.stderr

    def total(*flags: object) -> float:
        scored = arith("score", path, "--prompts", data, "--end", *flags)
        assert scored.exit_code == 0, scored.stderr
        return math.fsum(json.loads(line)["logprobs"]["formula"] for line in scored.stdout.splitlines())

    assert total("--params", out) > total() + 1e-3
    assert total("--params", out, "--param", "alpha=0") == pytest.approx(total())


def test_what_only_drafts_is_not_fitted(arith: Arith, spec: Spec, data: Path, tmp_path: Path) -> None:
    elsewhere = {"model": str(tmp_path / "elsewhere")}
    plain = spec("base + w*other", params={"w": 0.0}, **OTHER).rename(tmp_path / "plain.yaml")
    path = spec("supersede(v*gone, base + w*other)", params={"v": 1.0, "w": 0.0}, gone=elsewhere, **OTHER)
    found = []
    for number, one in enumerate((plain, path)):
        out = tmp_path / f"fitted{number}.yaml"
        result = arith("fit", one, "--data", data, "--out", out)
        assert result.exit_code == 0, result.stderr
        found.append(read_params(out, ["v", "w"])["w"])
    assert found[0] == pytest.approx(found[1], abs=1e-6) and found[0] != 0


def test_the_search_starts_where_it_is_told_to(arith: Arith, spec: Spec, data: Path, tmp_path: Path) -> None:
    """The start is that of --param, over the file of --params, over the specification."""
    path = spec("base + a*other + b*base + c*other*t", params={"a": 0.5, "b": 0.5, "c": 0.0}, **OTHER)
    start, out = tmp_path / "start.yaml", tmp_path / "fitted.yaml"
    write_params(start, {"a": 0.25, "b": 0.125})
    words = ["--data", data, "--out", out, "--params", start, "--param", "b=-0.75", "--fit", "a"]
    result = arith("fit", path, *words)
    assert result.exit_code == 0, result.stderr
    assert "evaluation 1: " in result.stderr and "with a=0.25\n" in result.stderr
    found = read_params(out, ["a", "b", "c"])
    assert (found["b"], found["c"]) == (-0.75, 0.0) and found["a"] != 0.25


def test_a_model_takes_the_place_of_an_operands_own(
    arith: Arith, spec: Spec, data: Path, tmp_path: Path, tiny_llama: str, tiny_llama_other: str
) -> None:
    other = {"base": {"model": tiny_llama}, "other": {"model": tiny_llama_other}}
    expected, found = tmp_path / "expected.yaml", tmp_path / "found.yaml"
    written = spec("base + alpha*other", params={"alpha": 0}, **other)
    assert arith("fit", written, "--data", data, "--out", expected).exit_code == 0
    absent = spec("base + alpha*other", params={"alpha": 0}, base=other["base"], other={"model": "./nowhere"})
    result = arith("fit", absent, "--data", data, "--out", found, "--model", f"other={tiny_llama_other}")
    assert result.exit_code == 0, result.stderr
    assert read_params(found, ["alpha"]) == read_params(expected, ["alpha"])
    refused(
        arith("fit", absent, "--data", data, "--out", found, "--overwrite", "--model", "oter=x"), "`oter`"
    )


def test_preferences_are_told_by_their_columns(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, out = tmp_path / "pairs.jsonl", tmp_path / "fitted.yaml"
    rows = [
        {"prompt": "one", "chosen": " is", "rejected": " are not"},
        {"prompt": "two", "chosen": " is not", "rejected": " are"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    made = spec("base + 2*tanh(a)*other - 0.3*a*base", params={"a": 0.1}, **OTHER)
    result = arith("fit", made, "--data", path, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "pairs ranked right" in result.stdout and read_params(out, ["a"])


def test_every_command_takes_the_file(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, file = spec("base + alpha*other", **OTHER), tmp_path / "params.yaml"
    write_params(file, {"alpha": 0.375})
    assert "parameter alpha: 0.375" in arith("check", path, "--params", file).stdout
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
    for command in ("generate", "score"):
        result = arith(command, path, "--prompts", rows, "--params", file)
        assert [json.loads(line)["params"] for line in result.stdout.splitlines()] == [{"alpha": 0.375}] * 2
        refused(arith(command, path, "--prompts", rows), "alpha", "no value")
        both = arith(command, path, "--prompts", rows, "--params", file, "--out", file, "--overwrite")
        refused(both, f"{file}: is read by this command")
    words = ["--rows", 1, "--tokens", 2, "--repeats", 1]
    assert arith("bench", path, "--params", file, *words).exit_code == 0
    file.write_text("alpha: 1\nbeta: 2\n")
    for command, flags in (("check", []), ("bench", words), ("generate", ["--prompt", "a"])):
        refused(
            arith(command, path, "--params", file, *flags), f"{file}:2: the formula has no parameter `beta`"
        )


@pytest.mark.parametrize(
    ("formula", "flags", "words"),
    [
        ("base", [], ["no parameters to fit"]),
        ("base + alpha*other", ["--fit", "alpah"], ["no parameter `alpah`", "did you mean `alpha`"]),
        ("base + alpha*other", ["--objective", "accuracy"], ["no objective `accuracy`", "likelihood"]),
        ("base + alpha*other", ["--objective", "preference"], ["data.jsonl:1: needs `chosen`"]),
        ("where(t < alpha, base, other)", [], ["no gradient reaches `alpha`", "^^^^^"]),
        ("base + alpha*alpha*other", ["--param", "alpha=0"], ["`alpha` makes no difference", "alpha=0"]),
        ("top_k(base, 1) + alpha*other", [], ["the probability 0", "data.jsonl:1"]),
        ("base + log(alpha)*other", ["--param", "alpha=-1"], ["log(alpha)", "alpha=-1", "exp(a)"]),
    ],
)
def test_what_can_not_be_fitted(
    arith: Arith,
    spec: Spec,
    data: Path,
    tmp_path: Path,
    formula: str,
    flags: list[str],
    words: list[str],
) -> None:
    params = {"alpha": 0.5} if "alpha" in formula else {}
    operands = {name: one for name, one in OTHER.items() if name in formula}
    out = tmp_path / "fitted.yaml"
    refused(
        arith("fit", spec(formula, params=params, **operands), "--data", data, "--out", out, *flags), *words
    )
    assert not out.exists()


def test_the_output_is_looked_at_before_anything_runs(
    arith: Arith, spec: Spec, data: Path, tmp_path: Path
) -> None:
    path, out = spec("base + alpha*other", params={"alpha": 0.5}, **OTHER), tmp_path / "fitted.yaml"
    words = ["fit", path, "--data", data]
    refused(arith(*words, "--out", data, "--overwrite"), "is read by this command")
    refused(arith(*words, "--out", tmp_path), "is a folder")
    refused(arith(*words, "--out", tmp_path / "nowhere" / "fitted.yaml"), "nowhere doesn't exist")
    out.write_text("alpha: 0.1\n")
    refused(arith(*words, "--out", out), "exists already", "--overwrite")
    assert out.read_text() == "alpha: 0.1\n"
    assert arith(*words, "--out", out, "--params", out, "--overwrite").exit_code == 0
    assert out.read_text() != "alpha: 0.1\n"
