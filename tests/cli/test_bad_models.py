"""Models and adapters that can't be had: one clear message and exit code 2, from `check` too."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Arith, Spec, refused


def test_a_missing_model_folder(arith: Arith, spec: Spec) -> None:
    place = str(Path(spec()).parent / "no/such")
    for operand in (
        {"model": "./no/such"},
        {"model": "./no/such", "kind": "reward_model"},
        {"adapter": "./no/such"},
    ):
        path = spec(base=operand)
        if "kind" in operand:
            path = spec("base + guide(judge, base, 2)", base={}, judge=operand)
        refused(
            arith("check", path),
            f"there is no {'adapter' if 'adapter' in operand else 'model'} folder at {place}",
        )
        refused(arith("generate", path, "--prompt", "a"), place)


@pytest.mark.parametrize(
    ("operand", "word"),
    [
        ({"model": "a--b/c..d"}, "a--b/c..d"),
        ({"model": "x" * 300}, "no model folder"),
        ({"model": "./" + "x" * 300}, "no model folder"),
        ({"adapter": "a b"}, "a b"),
        ({"adapter": "a\0b"}, "a\0b"),
        ({"adapter": "x" * 300}, "no adapter folder"),
    ],
)
def test_a_name_that_no_model_can_have(
    arith: Arith, spec: Spec, operand: dict[str, object], word: str
) -> None:
    path = spec(base=operand)
    refused(arith("check", path), word)
    refused(arith("generate", path, "--prompt", "a"), word)


def test_a_damaged_adapter(arith: Arith, spec: Spec, lora_a: str, tmp_path: Path) -> None:
    shutil.copytree(lora_a, tmp_path / "lora")
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(b"junk")
    path = spec(base={"adapter": "./lora"})
    refused(arith("check", path), f"can't read the weights of the adapter {tmp_path / 'lora'}")
    refused(arith("generate", path, "--prompt", "a"), f"the adapter {tmp_path / 'lora'}")


def test_a_model_folder_that_is_not_whole(arith: Arith, spec: Spec, tiny_llama: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "model")
    path = spec(base={"model": "./model"})
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama", "hidden_size": "x"}')
    refused(arith("check", path), "can't read the configuration", "hidden_size")
    (tmp_path / "model" / "model.safetensors").unlink()
    refused(arith("check", path), "has no whole weights", "model.safetensors")


def test_a_model_folder_without_a_tokenizer(
    arith: Arith, spec: Spec, tiny_llama: str, tmp_path: Path
) -> None:
    shutil.copytree(tiny_llama, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    path = spec(base={"model": "./model"})
    refused(arith("check", path), f"can't read the tokenizer of {tmp_path / 'model'}")


def test_an_adapter_for_another_architecture(arith: Arith, spec: Spec, lora_other_architecture: str) -> None:
    path = spec("base", base={"adapter": lora_other_architecture})
    refused(arith("generate", path, "--prompt", "a"), "adapter", lora_other_architecture)


def test_tokenizers_that_disagree(arith: Arith, spec: Spec, tiny_other_tokenizer: str) -> None:
    path = spec("base + other", base={}, other={"model": tiny_other_tokenizer})
    refused(arith("generate", path, "--prompt", "a"), "tokenizers", "`base`", "`other`")
