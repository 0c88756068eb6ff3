"""Folders written by training, as operands."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arith import LLM, OperandError, RewardModel, Spec
from arith.operands.manifest import Manifest, contradictions, read_manifest


def write(folder: Path, **changes: Any) -> str:
    folder.mkdir(exist_ok=True)
    content: dict[str, Any] = {
        "kind": "adapter", "model": "org/base", "revision": None, "system": None, "template": None,
        "objective": {"name": "arm", "beta": 0.1},
    }  # fmt: skip
    Manifest(**content | changes).write(folder)
    return str(folder)


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "arm", system="Ein Gruß.", template="{system}\n{prompt}", revision="v2")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.system, manifest.template, manifest.revision) == (
        "Ein Gruß.",
        "{system}\n{prompt}",
        "v2",
    )
    assert read_manifest(str(tmp_path)) is None


def test_an_adapter_takes_base_revision_and_format_from_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "arm", system="Be kind.", template="{system} {prompt}", revision="v2")
    expected = LLM("org/base", folder, "v2", "Be kind.", "{system} {prompt}")
    assert LLM(adapter=folder) == LLM(model=folder) == LLM("org/base", folder, "v2") == expected
    assert contradictions("arm", expected) == []


def test_what_an_operand_says_wins_over_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "arm", system="Be kind.")
    arm = LLM("org/other", folder, system="", template="{system}{prompt}")
    assert (arm.model, arm.system, arm.template) == ("org/other", "", "{system}{prompt}")
    raw = LLM(adapter=folder, template="raw")
    assert raw.system is None, "raw has no place for the system prompt of the training"
    assert len(contradictions("arm", arm)) == 3


def test_a_format_of_none_wins_over_its_folder_and_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "arm", system="Be kind.", template="{system} {prompt}")
    bare = LLM(adapter=folder, system=None, template=None)
    assert (bare.system, bare.template) == (None, None)
    assert [note.partition(", and ")[2] for note in contradictions("arm", bare)] == ["runs with None"] * 2
    assert replace(bare, dtype="float32").system is None
    (tmp_path / "spec.yaml").write_text(
        "formula: arm + base\noperands:\n  arm: {adapter: arm, system: null, template: null}\n"
        "  base: {model: org/base}\n"
    )
    spec = Spec.load(tmp_path / "spec.yaml")
    assert spec.operands["arm"] == bare
    (tmp_path / "again.yaml").write_text(spec.dump())
    assert Spec.load(tmp_path / "again.yaml").operands == spec.operands
    assert "null" not in replace(spec, operands={"base": spec.operands["base"]}).dump()


def test_a_whole_model_takes_its_format_and_stays_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "sft", kind="model", template="Q: {prompt}\nA:")
    operand = LLM(folder)
    assert (operand.model, operand.adapter, operand.template) == (folder, None, "Q: {prompt}\nA:")
    assert contradictions("base", operand) == []
    assert len(contradictions("base", LLM(folder, template="raw"))) == 1


def test_a_reward_model_reads_the_text_behind_the_prompt_of_its_training(tmp_path: Path) -> None:
    folder = write(tmp_path / "reward", kind="reward_model", template="Q: {prompt}\nA:")
    assert RewardModel(folder).template == "Q: {prompt}\nA:{text}"
    assert RewardModel(folder, template="{text}").template == "{text}"
    with pytest.raises(OperandError, match="is a reward model"):
        LLM(folder)


def test_a_reward_model_that_reads_otherwise_than_in_training_is_told(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", kind="reward_model")
    assert contradictions("nice", RewardModel(plain)) == []
    (told,) = contradictions("nice", RewardModel(plain, template="{prompt}: {text}"))
    assert told == f"`nice`: {plain} was trained with template None, and runs with '{{prompt}}: {{text}}'"
    raw = write(tmp_path / "raw", kind="reward_model", template="raw")
    assert contradictions("nice", RewardModel(raw)) == []
    assert contradictions("nice", RewardModel(raw, template="{prompt}{text}")) == []
    assert len(contradictions("nice", RewardModel(raw, template="{text}"))) == 1


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_language_model_is_no_reward_model(tmp_path: Path, kind: str) -> None:
    """transformers would put a head of random weights on it."""
    with pytest.raises(OperandError, match="not as a reward model\nhint: declare it as an LLM"):
        RewardModel(write(tmp_path / "arm", kind=kind))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"kind": "adapter"}', "\udcff"])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "arith.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(OperandError, match=r"arith\.json"):
        LLM(adapter=str(tmp_path))


def test_an_adapter_from_elsewhere_needs_its_base(tmp_path: Path) -> None:
    with pytest.raises(OperandError, match="no `model`"):
        LLM(adapter=str(tmp_path))
    with pytest.raises(OperandError, match="`model` is empty"):
        LLM()


def test_a_specification_names_a_folder_alone_and_dumps_what_it_means(tmp_path: Path) -> None:
    write(tmp_path / "arm", template="{prompt}!")
    (tmp_path / "spec.yaml").write_text("formula: arm\noperands: {arm: {adapter: arm}}\n")
    arm = Spec.load(tmp_path / "spec.yaml").operands["arm"]
    assert isinstance(arm, LLM)
    assert (arm.model, arm.adapter, arm.template) == ("org/base", str(tmp_path / "arm"), "{prompt}!")
    (tmp_path / "again.yaml").write_text(Spec.load(tmp_path / "spec.yaml").dump())
    assert Spec.load(tmp_path / "again.yaml").operands["arm"] == arm


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = Path(write(tmp_path / "arm"))
    assert [path.name for path in folder.iterdir()] == ["arith.json"]
    assert json.loads((folder / "arith.json").read_text())["model"] == "org/base"
