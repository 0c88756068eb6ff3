"""Loaded weights: what they compute, on which device and dtype, and that loading is silent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.loading import (
    context_window,
    end_ids,
    load_config,
    load_model,
    resolve_device,
    resolve_dtype,
)
from arith.operands.precision import default_dtype
from arith.operands.prompts import render
from arith.operands.tokenizers import load_tokenizer

CPU = torch.device("cpu")


def rewrite(folder: str, file: str, **changes: Any) -> None:
    path = Path(folder) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding", "tiny_mamba"])
def test_every_kind_loads_ready_to_evaluate_and_in_silence(
    fixture: str, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = request.getfixturevalue(fixture)
    capfd.readouterr()
    model = load_model(LLM(folder).weights, CPU)
    assert capfd.readouterr() == ("", "")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.device for parameter in model.parameters()} == {CPU}


def test_loaded_tensors_are_those_of_the_checkpoint(tiny_llama: str) -> None:
    state = load_model(LLM(tiny_llama).weights, CPU).state_dict()
    saved = load_file(Path(tiny_llama) / "model.safetensors")
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], saved[name]) for name in saved)


def test_the_declared_dtype_is_that_of_the_weights(tiny_llama: str) -> None:
    weights = LLM(tiny_llama, dtype="bfloat16").weights
    assert resolve_dtype(weights, CPU) == torch.bfloat16
    assert load_model(weights, CPU).dtype == torch.bfloat16
    assert resolve_dtype(LLM(tiny_llama).weights, CPU) == torch.float32


def test_the_default_dtype_is_one_that_the_device_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    half, brain, none = LlamaConfig(dtype="float16"), LlamaConfig(dtype=torch.bfloat16), LlamaConfig()
    cuda = torch.device("cuda")
    assert default_dtype(half, cuda) == torch.float16
    assert default_dtype(half, CPU) == torch.float32
    assert default_dtype(none, cuda) == torch.float32
    for has_bfloat16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        for device in (CPU, cuda):
            name = f"arith.operands.precision._{device.type}_has_bfloat16"
            monkeypatch.setattr(name, lambda *_, has=has_bfloat16: has)
            assert default_dtype(brain, device) == dtype


def test_devices_are_tried_in_order_and_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"cuda": True, "mps": True}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present["cuda"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: present["mps"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device(None).type == "cuda"
    with pytest.raises(OperandError, match="cuda:3 was asked for, but there are 1"):
        resolve_device("cuda:3")
    present["cuda"] = False
    assert resolve_device(None).type == "mps"
    present["mps"] = False
    assert resolve_device(None) == CPU == resolve_device("cpu")
    with pytest.raises(OperandError, match="torch sees no CUDA device"):
        resolve_device("cuda")
    with pytest.raises(OperandError, match="mps was asked for"):
        resolve_device("mps")
    with pytest.raises(OperandError, match="`gpu0` isn't a device"):
        resolve_device("gpu0")


def test_a_checkpoint_that_lacks_tensors_is_refused(new_llama: Callable[..., str]) -> None:
    folder = new_llama("lacks_tensors", seed=20)
    file = Path(folder) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        OperandError, match=r"lacks 1 of its tensors, the first being .*layers\.1\.mlp\.up_proj"
    ):
        load_model(LLM(folder).weights, CPU)


def test_a_device_map_decides_over_the_device(tiny_llama: str) -> None:
    model = load_model(LLM(tiny_llama, device_map="meta").weights, CPU)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    with pytest.raises(OperandError, match=r"can't read the model of .*tiny_llama: .*device_map"):
        load_model(LLM(tiny_llama, device_map="everywhere").weights, CPU)


@pytest.mark.parametrize(
    ("file", "what"),
    [("model.safetensors", "model"), ("config.json", "configuration"), ("tokenizer.json", "tokenizer")],
)
def test_a_damaged_folder_is_one_clear_error(new_llama: Callable[..., str], file: str, what: str) -> None:
    folder = new_llama(f"damaged_{what}", seed=21)
    path = Path(folder) / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OperandError, match=rf"can't read the \w+ of {folder}: .+") as refusal:
        load_tokenizer(LLM(folder))
        load_model(LLM(folder).weights, CPU)
    assert "\n" not in str(refusal.value)


def test_remote_code_is_never_run(new_llama: Callable[..., str]) -> None:
    folder = new_llama("remote_code", seed=22)
    (Path(folder) / "custom.py").write_text("raise SystemExit('executed')")
    rewrite(folder, "config.json", model_type="custom", auto_map={"AutoConfig": "custom.Custom"})
    with pytest.raises(OperandError, match="can't read the configuration"):
        load_config(LLM(folder).weights)


def test_quantisation_names_what_it_needs(tiny_llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    weights = LLM(tiny_llama, quantization="4bit").weights
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OperandError, match="needs the package bitsandbytes"):
        load_model(weights, CPU)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(OperandError, match="needs a CUDA device, not cpu"):
        load_model(weights, CPU)


def test_quantising_a_quantised_checkpoint_is_refused(new_llama: Callable[..., str]) -> None:
    folder = new_llama("quantised_already", seed=23)
    rewrite(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(OperandError, match="is quantised already"):
        load_model(LLM(folder, quantization="8bit").weights, CPU)


def test_a_revision_of_a_local_folder_is_refused(tiny_llama: str) -> None:
    with pytest.raises(OperandError, match="`revision` is for hub models"):
        load_config(LLM(tiny_llama, revision="v2").weights)


def test_end_ids_come_from_the_generation_config_then_the_config_then_the_tokenizer(
    new_llama: Callable[..., str],
) -> None:
    folders = [new_llama(f"end_ids_{case}", seed=24, eos_token_id=259) for case in range(4)]
    rewrite(folders[0], "generation_config.json", eos_token_id=[257, 260])
    for folder in folders[1:]:
        (Path(folder) / "generation_config.json").unlink()
    rewrite(folders[2], "config.json", eos_token_id=None)
    rewrite(folders[3], "config.json", eos_token_id=None)
    rewrite(folders[3], "tokenizer_config.json", eos_token=None)
    found = [end_ids(LLM(folder)) for folder in folders]
    assert found == [{257, 260}, {259}, {257}, frozenset()]


def test_a_damaged_generation_config_is_not_taken_for_a_missing_one(new_llama: Callable[..., str]) -> None:
    folder = new_llama("damaged_generation_config", seed=25)
    (Path(folder) / "generation_config.json").write_text("{")
    with pytest.raises(OperandError, match="can't read the generation config"):
        end_ids(LLM(folder))


def test_the_context_window_is_the_configured_one(tiny_llama: str, tiny_gpt2: str, tiny_mamba: str) -> None:
    windows = [
        context_window(load_config(LLM(folder).weights)) for folder in (tiny_llama, tiny_gpt2, tiny_mamba)
    ]
    assert windows == [512, 512, None]


def test_the_demo_model_answers(smollm: str) -> None:
    """The real file, in the user's own cache: a first run converts it, later ones take a second."""
    operand = LLM(smollm)
    tokenizer = load_tokenizer(operand)
    model: Any = load_model(operand.weights, CPU)
    ids = render(operand, tokenizer, "What is the capital of France? Answer in one word.")
    with torch.inference_mode():
        output = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, len(ids) :])
    assert end_ids(operand) == {2}
