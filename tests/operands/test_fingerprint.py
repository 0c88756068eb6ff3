"""Fingerprints of weights: of a copy the same, of other weights another one."""

import json
import shutil
from pathlib import Path

import pytest

from arith import LLM, RewardModel
from arith.operands import fingerprint
from arith.operands.fingerprint import Operand, fingerprints


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 64)
    (folder / "README.md").write_text("A model.")
    return folder


def of(path: Path, **fields: str) -> str:
    return fingerprints({"base": LLM(str(path), **fields)})["base"]


def test_a_copy_elsewhere_has_the_same_and_what_is_no_part_of_the_model_does_not_count(
    model: Path, tmp_path: Path
) -> None:
    before = of(model)
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "README.md").write_text("A copy.")
    (copy / "data.json").write_text(json.dumps([1]))
    assert of(copy) == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_replaced_makes_another_one(model: Path, name: str) -> None:
    before = of(model)
    content = (model / name).read_bytes() if (model / name).exists() else b"{}"
    (model / name).write_bytes(content[:-1] + b"]")
    assert of(model) != before


def test_of_a_long_file_evenly_spread_blocks_count(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "BLOCK", 16)
    monkeypatch.setattr(fingerprint, "BLOCKS", 4)
    file = model / "model.safetensors"
    content = file.read_bytes()
    before = of(model)
    for place in (0, len(content) // 3, len(content) - 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert of(model) != before
    file.write_bytes(content + b"x")
    assert of(model) != before


def test_an_adapter_counts_and_what_is_on_the_hub_has_none(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    with_adapter = of(model, adapter=str(adapter))
    assert with_adapter != of(model)
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    assert of(model, adapter=str(adapter)) != with_adapter
    operands: dict[str, Operand] = {
        "hub": LLM("org/name"),
        "judge": RewardModel(str(model)),
        "gone": LLM("package:nowhere/x.gguf"),
    }
    assert set(fingerprints(operands)) == {"judge"}
