"""The folder of `arith sweep`: one specification, one name a prompt, the same weights throughout."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Arith, Sweep, refused


def test_rows_of_prompts_that_are_gone_from_the_file_are_told(
    arith: Arith, swept: Sweep, tmp_path: Path
) -> None:
    words, out = swept(), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    told = arith(*words, "--out", out).stderr
    assert "out: 3 rows are of prompts that" in told and "nothing to do" in told
    (tmp_path / "prompts.txt").write_text("one\ntwo\none\n")
    assert "rows are of prompts" not in arith(*words, "--out", out).stderr


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ('{"prompt": "four", "id": 1}\n', "1"),
        ('{"prompt": "one", "about": "x", "id": 0}\n', "0"),
        ('{"prompt": "four", "id": "a"}\n{"prompt": "five", "id": "a"}\n', "'a'"),
    ],
)
def test_two_prompts_of_a_folder_have_two_names(
    arith: Arith, swept: Sweep, tmp_path: Path, lines: str, name: str
) -> None:
    words, out = swept(), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    before = (out / "results.jsonl").read_bytes()
    (tmp_path / "other.jsonl").write_text(lines)
    refused(
        arith(*words[:3], tmp_path / "other.jsonl", "--out", out),
        f"several prompts are called {name}:",
        "its own `id`",
    )
    assert (out / "results.jsonl").read_bytes() == before


def test_another_specification_is_refused_with_the_difference(
    arith: Arith, swept: Sweep, tmp_path: Path
) -> None:
    words, out = swept(), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    before = (out / "results.jsonl").read_bytes(), (out / "spec.yaml").read_bytes()
    changed = swept(sweep={"h": [0, 0.5, 1], "s": "2 - h"}, sampling={"max_new_tokens": 7, "seed": 3})
    tokens = ("-  max_new_tokens: 6", "+  max_new_tokens: 7")
    links = ("-  s: 1 - h", "+  s: 2 - h")
    refused(arith(*changed, "--out", out), "another specification", *tokens, *links, "--out")
    refused(arith(*swept(), "--out", out, "--seed", 4), "-  seed: 3", "+  seed: 4")
    assert before == ((out / "results.jsonl").read_bytes(), (out / "spec.yaml").read_bytes())
    assert arith(*swept(), "--out", out, "--compile", "off", "--samples", 2).exit_code == 0
    (out / "spec.yaml").unlink()
    for other in ({"params": {"idle": 1}}, {"sweep": {"h": [0, 0.5, 1], "s": "2 - h"}}):
        refused(arith(*swept(**other), "--out", out), "results.jsonl:1", "another formula", "--out")


def test_a_model_by_another_spelling_of_its_path_is_the_same_sweep(
    arith: Arith, swept: Sweep, tmp_path: Path, tiny_llama: str
) -> None:
    out = tmp_path / "out"
    (tmp_path / "link").symlink_to(tiny_llama)
    for model in (tiny_llama, f"{tiny_llama}/", str(tmp_path / "link")):
        result = arith(*swept(), "--model", f"help={model}", "--out", out)
        assert result.exit_code == 0, result.stderr
    assert "nothing to do" in result.stderr
    again = arith("sweep", out / "spec.yaml", *swept()[2:], "--out", out)
    assert "nothing to do" in again.stderr


def test_white_space_in_formulas_makes_no_other_sweep(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    formulas = {"one": "base + help", "two": "base"}
    assert arith(*swept(sweep={"formula": formulas}), "--out", tmp_path / "out").exit_code == 0
    formulas["one"] = "base   +(help)  # the same"
    result = arith(
        *swept(sweep={"formula": formulas}, formula="base+h*help + s * harm"), "--out", tmp_path / "out"
    )
    assert "nothing to do" in result.stderr


def test_other_versions_are_told_and_no_reason_to_refuse(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    words, out = swept(), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    path = out / "spec.yaml"
    path.write_text(path.read_text().replace("  peft: ", "  peft: 0.0."))
    result = arith(*words, "--out", out)
    assert result.exit_code == 0 and "and was 0.0." in result.stderr


def test_weights_that_were_replaced_are_refused(
    arith: Arith, swept: Sweep, tmp_path: Path, tiny_llama: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_llama, model)
    words, out = swept(defaults={"model": str(model), "template": "{prompt}"}), tmp_path / "out"
    assert arith(*words, "--out", out).exit_code == 0
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused(arith(*words, "--out", out, "--samples", 2), "the weights of `base`, `help`, `harm` aren't those")
    (model / "model.safetensors").write_bytes(weights)
    assert arith(*words, "--out", out, "--samples", 2).exit_code == 0
