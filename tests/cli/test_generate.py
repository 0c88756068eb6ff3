"""`arith generate`: text on the terminal, rows in a file, and runs that go on where they were cut off."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import arith.runtime
from arith import Engine
from arith.cli.generate import generate
from arith.operands import source
from arith.runtime.options import Sampling
from arith.runtime.result import Result
from arith.runtime.row import Row
from tests.cli.conftest import Arith, Spec, refused


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["prompt"], row["occurrence"], row["sample"]))


def prompts_file(folder: Path, *prompts: str) -> Path:
    path = folder / "prompts.txt"
    path.write_text("\n".join(prompts))
    return path


def test_one_prompt_is_streamed_as_text_and_nothing_else(arith: Arith, spec: Spec) -> None:
    path = spec("base - 0.5*base")
    result = arith("generate", path, "--prompt", "hello")
    expected = Engine.load(path).generate(["hello"], max_new_tokens=8)[0].text
    assert result.exit_code == 0
    assert result.stdout == expected + "\n"
    assert "tokens/s" in result.stderr


def test_the_plan_is_shown_on_standard_error(arith: Arith, spec: Spec) -> None:
    result = arith("generate", spec(), "--prompt", "hello")
    assert "cpu" in result.stderr and "float32" in result.stderr


def test_a_conversion_is_told_before_it_begins(
    arith: Arith, spec: Spec, tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spec("a - 0.5*b", a={}, b={"template": "Q: {prompt}"})
    assert "converting" not in arith("generate", path, "--prompt", "hello").stderr
    monkeypatch.setattr(source, "is_unconverted", lambda model: True)
    said = arith("generate", path, "--prompt", "hello").stderr
    assert said.count(f"converting {tiny_llama} to float32 once") == 1
    assert said.index("converting") < said.index("loading the models")


def test_rows_hold_what_the_engine_gave(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path = spec("base + alpha*other", base={}, other={"template": "Q: {prompt}"}, params={"alpha": 0.5})
    prompts, out = prompts_file(tmp_path, "one", "two", "one"), tmp_path / "out.jsonl"
    result = arith("generate", path, "--prompts", prompts, "--out", out, "--num-return-sequences", "2")
    assert result.exit_code == 0 and result.stdout == ""
    engine = Engine.load(path)
    expected = engine.generate(
        ["one", "two", "one"], params={"alpha": 0.5}, max_new_tokens=8, num_return_sequences=2
    )
    rows = {(row["prompt"], row["occurrence"], row["sample"]): row for row in rows_in(out)}
    assert len(rows) == 6
    expected_heads = [("one", 0), ("one", 0), ("two", 0), ("two", 0), ("one", 1), ("one", 1)]
    for one, head in zip(expected, expected_heads, strict=True):
        row = rows[(*head, one.sample)]
        assert row["text"] == one.text and row["token_ids"] == list(one.token_ids)
        assert row["finish_reason"] == one.finish_reason and row["params"] == {"alpha": 0.5}
        assert set(row["logprobs"]) == {"formula", "base", "other"}
        for name, total in row["logprobs"].items():
            assert total == pytest.approx(sum(one.logprobs[name]), abs=1e-3)


def test_a_row_without_a_token_left_is_named_by_its_line(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('\n{"prompt": "a"}\n')
    result = arith("generate", spec("log(p(base) - (t > 2))"), "--prompts", prompts)
    assert result.exit_code == 2
    assert f"{prompts}:2, sample 1, step 3" in result.stderr


def test_an_id_and_fields_come_back_with_the_row(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(
        '{"prompt": "a", "id": "x7", "context": "c", "n": 3}\n{"prompt": "b", "context": "d"}\n'
    )
    path = spec(base={"template": "{context} {prompt}"})
    result = arith("generate", path, "--prompts", prompts)
    assert result.exit_code == 0
    rows = {row["prompt"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["a"]["id"] == "x7" and rows["a"]["fields"] == {"context": "c", "n": 3}
    assert "id" not in rows["b"]


def test_several_rows_without_a_file_are_json_lines_on_standard_output(arith: Arith, spec: Spec) -> None:
    result = arith("generate", spec(), stdin="one\ntwo\n")
    assert sorted(json.loads(line)["prompt"] for line in result.stdout.splitlines()) == ["one", "two"]


def test_a_resumed_run_equals_an_uninterrupted_one(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = prompts_file(tmp_path, "one", "two", "one", "three")
    words = ["generate", spec(), "--prompts", prompts, "--num-return-sequences", "2"]
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert arith(*words, "--out", whole).exit_code == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in ([0, 3, 6], [], list(range(8)), [7]):
        torn = b'{"prompt": "thr' if len(kept) < len(lines) else b""
        cut.write_bytes(b"".join(lines[index] for index in kept) + torn)
        assert arith(*words, "--out", cut, "--resume").exit_code == 0
        again = in_order(rows_in(cut))
        assert [(row["prompt"], row["token_ids"]) for row in again] == [
            (row["prompt"], row["token_ids"]) for row in in_order(rows_in(whole))
        ]


def test_no_row_that_is_there_is_run_again(
    arith: Arith, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, int]] = []
    result_of = Row.result

    def counted(row: Row, *given: Any) -> Result:
        ran.append((row.index, row.sample))
        return result_of(row, *given)

    out, prompts = tmp_path / "out.jsonl", prompts_file(tmp_path, "one", "two", "one")
    words = ["generate", spec(), "--prompts", prompts, "--num-return-sequences"]
    assert arith(*words, 3, "--out", tmp_path / "whole.jsonl").exit_code == 0
    monkeypatch.setattr(Row, "result", counted)
    for samples, missing in ((1, {(0, 0), (1, 0), (2, 0)}), (3, {(i, s) for i in range(3) for s in (1, 2)})):
        ran.clear()
        assert arith(*words, samples, "--out", out, "--resume").exit_code == 0
        assert len(ran) == len(missing) and set(ran) == missing
    whole = in_order(rows_in(tmp_path / "whole.jsonl"))
    assert [row["token_ids"] for row in in_order(rows_in(out))] == [row["token_ids"] for row in whole]


def test_a_run_does_not_resume_with_other_weights(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama: str
) -> None:
    model, out = tmp_path / "model", tmp_path / "out.jsonl"
    shutil.copytree(tiny_llama, model)
    words = ["generate", spec(base={"model": str(model)}), "--prompt", "one", "--out", out]
    assert arith(*words).exit_code == 0 and arith(*words, "--resume").exit_code == 0
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused(arith(*words, "--resume"), "other operands or weights")


def test_a_run_resumes_from_another_folder(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").symlink_to(Path(tiny_llama).parent)
    (tmp_path / "elsewhere").mkdir()
    path = spec(base={"model": f"./models/{Path(tiny_llama).name}"})
    flags = ["--prompt", "one", "--out", tmp_path / "out.jsonl", "--resume"]
    for folder, name in (
        (tmp_path, "spec.yaml"),
        (tmp_path / "elsewhere", "../spec.yaml"),
        (Path("/"), path),
    ):
        monkeypatch.chdir(folder)
        result = arith("generate", name, *flags)
        assert result.exit_code == 0, result.stderr
    assert "nothing to do" in result.stderr and len(rows_in(tmp_path / "out.jsonl")) == 1


def test_more_samples_and_parameters_go_on_in_one_file(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, out = spec("base + alpha*base"), tmp_path / "out.jsonl"
    words = ["generate", path, "--prompts", prompts_file(tmp_path, "one", "two"), "--out", out, "--resume"]
    assert arith(*words, "--param", "alpha=0").exit_code == 0
    first = out.read_bytes()
    assert arith(*words, "--param", "alpha=0", "--num-return-sequences", "2").exit_code == 0
    assert arith(*words, "--param", "alpha=0.5").exit_code == 0
    assert out.read_bytes().startswith(first)
    assert sorted((row["prompt"], row["params"]["alpha"], row["sample"]) for row in rows_in(out)) == [
        ("one", 0, 0), ("one", 0, 1), ("one", 0.5, 0), ("two", 0, 0), ("two", 0, 1), ("two", 0.5, 0),
    ]  # fmt: skip


def test_other_options_do_not_mix_into_a_file(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert arith("generate", spec(), "--prompt", "one", "--out", out).exit_code == 0
    before = out.read_bytes()
    result = arith("generate", spec(), "--prompt", "one", "--out", out, "--resume", "--temperature", "0.5")
    assert result.exit_code == 2 and "other options" in result.stderr
    assert out.read_bytes() == before
    words = ["generate", spec(), "--prompt", "one", "--out", out, "--overwrite", "--seed", "5"]
    assert arith(*words).exit_code == 0
    assert len(rows_in(out)) == 1


def test_a_finished_run_loads_no_model(
    arith: Arith, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["generate", spec(), "--prompt", "one", "--out", tmp_path / "out.jsonl", "--resume"]
    assert arith(*words).exit_code == 0
    monkeypatch.setattr(arith_runtime(), "Engine", None)
    result = arith(*words)
    assert result.exit_code == 0 and "nothing to do" in result.stderr


def arith_runtime() -> Any:
    return arith.runtime


def test_interrupted_the_finished_rows_stay(
    arith: Arith, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_completed = Engine.as_completed

    def interrupted(self: Engine, *given: Any, **options: Any) -> Any:
        results = as_completed(self, *given, **options)
        yield next(results)
        raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    words = ["generate", spec(), "--prompts", prompts_file(tmp_path, "one", "two", "three"), "--out", out]
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "as_completed", interrupted)
        result = arith(*words)
    assert result.exit_code == 130 and len(rows_in(out)) == 1
    assert str(out) in result.stderr
    assert arith(*words, "--resume").exit_code == 0
    assert [row["prompt"] for row in in_order(rows_in(out))] == ["one", "three", "two"]


def test_every_sampling_option_has_a_flag(arith: Arith, spec: Spec) -> None:
    values = {
        "max_new_tokens": 3, "do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.95, "min_p": 0.01,
        "repetition_penalty": 1.1, "num_return_sequences": 2, "seed": 9,
    }  # fmt: skip
    assert {*values, "stop_strings", "forbid"} == set(Sampling.model_fields)
    pairs = [(flag(name), str(value)) for name, value in values.items() if name != "do_sample"]
    flags = [word for pair in pairs for word in pair]
    flags += ["--do-sample", "--stop-strings", "zzzz", "--stop-strings", "yyyy", "--forbid", "/[a-k]/"]
    result = arith("generate", spec(), "--prompt", "one", *flags)
    assert result.exit_code == 0, result.stderr
    expected = Engine.load(spec()).generate(
        ["one"], **values, stop_strings=("zzzz", "yyyy"), forbid=("/[a-k]/",)
    )
    rows = sorted(map(json.loads, result.stdout.splitlines()), key=lambda row: row["sample"])
    assert [row["token_ids"] for row in rows] == [list(one.token_ids) for one in expected]
    assert set(Sampling.model_fields) <= set(inspect.signature(generate).parameters)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_flags_go_over_the_specification(arith: Arith, spec: Spec) -> None:
    path = spec(sampling={"max_new_tokens": 5, "do_sample": False})
    greedy = arith("generate", path, "--prompt", "one").stdout
    assert greedy == arith("generate", path, "--prompt", "one", "--seed", "3").stdout
    assert len(arith("generate", path, "--prompt", "one", "--max-new-tokens", "1").stdout) < len(greedy)
    assert "--no-do-sample" in arith("generate", "--help").stdout
