"""Adapters on a loaded model, compared with the adapted weights written out by hand."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.adapters import adapter_config, attach, unmixable
from arith.operands.loading import load_model
from arith.operands.tokenizers import load_tokenizer

CPU = torch.device("cpu")


def logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(torch.tensor([ids])).logits
    return output


def merged(folder: str, adapter: str, scaling: float) -> torch.nn.Module:
    """The model at `folder` with `W + scaling · B A` computed here from the adapter's file."""
    model = load_model(LLM(folder).weights, CPU)
    tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            b = tensors[name.replace("lora_A", "lora_B")]
            target = name.removeprefix("base_model.model.").replace(".lora_A", "")
            model.get_parameter(target).data += scaling * b @ a
    return model


def test_attached_adapters_compute_the_adapted_weights(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    ids = load_tokenizer(LLM(tiny_llama))("some text of no importance")["input_ids"]
    base = logits(load_model(LLM(tiny_llama).weights, CPU), ids)
    model, names = attach(load_model(LLM(tiny_llama).weights, CPU), [lora_a, lora_b, lora_a])
    assert list(names) == [lora_a, lora_b]
    for adapter, scaling in ((lora_a, 8 / 4), (lora_b, 6 / math.sqrt(8))):
        model.set_adapter(names[adapter])
        expected = logits(merged(tiny_llama, adapter, scaling), ids)
        assert (expected - base).abs().max() > 0.1
        torch.testing.assert_close(logits(model, ids), expected, atol=1e-4, rtol=1e-4)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model, ids), base)


def test_an_attached_model_is_ready_to_evaluate(
    tiny_llama: str, lora_b: str, capfd: pytest.CaptureFixture[str]
) -> None:
    base = load_model(LLM(tiny_llama, dtype="bfloat16").weights, CPU)
    capfd.readouterr()
    model, _ = attach(base, [lora_b])
    assert capfd.readouterr() == ("", "")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_loading_draws_no_random_numbers(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    state = torch.random.get_rng_state()
    attach(load_model(LLM(tiny_llama).weights, CPU), [lora_a, lora_b])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_only_plain_lora_shares_a_batch(
    lora_a: str, lora_b: str, lora_dora: str, lora_modules_to_save: str, tmp_path: Path
) -> None:
    assert unmixable(lora_a) is None
    assert unmixable(lora_b) is None
    assert "DoRA" in (unmixable(lora_dora) or "")
    assert "modules_to_save" in (unmixable(lora_modules_to_save) or "")
    for change, reason in (
        ({"bias": "all"}, "bias: all"),
        ({"lora_bias": True}, "lora_bias"),
        ({"peft_type": "IA3"}, "IA3"),
    ):
        folder = tmp_path / reason
        shutil.copytree(lora_a, folder)
        config = json.loads((Path(lora_a) / "adapter_config.json").read_text())
        if "peft_type" in change:
            config = {"target_modules": ["q_proj"], "feedforward_modules": []}
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        assert reason in (unmixable(str(folder)) or "")


@pytest.mark.parametrize("fixture", ["lora_dora", "lora_modules_to_save"])
def test_adapters_that_cannot_share_a_batch_still_load(
    fixture: str, request: pytest.FixtureRequest, tiny_llama: str
) -> None:
    adapter = request.getfixturevalue(fixture)
    base = logits(load_model(LLM(tiny_llama).weights, CPU), [1, 2, 3])
    model, names = attach(load_model(LLM(tiny_llama).weights, CPU), [adapter])
    model.set_adapter(names[adapter])
    assert (logits(model, [1, 2, 3]) - base).abs().max() > 0.1


def test_an_adapter_of_another_architecture_is_refused(
    tiny_llama: str, lora_a: str, lora_other_architecture: str
) -> None:
    for adapters in ([lora_other_architecture], [lora_a, lora_other_architecture]):
        with pytest.raises(OperandError) as refusal:
            attach(load_model(LLM(tiny_llama).weights, CPU), adapters)
        assert f"the adapter {lora_other_architecture} doesn't fit {tiny_llama} (llama)" in str(refusal.value)
        assert "hint: it was made for " in str(refusal.value)
        assert "it adapts modules that the model doesn't have (c_attn)" in str(refusal.value)


def test_an_adapter_of_another_size_is_refused(
    new_llama: Callable[..., str], tiny_llama_other: str, lora_a: str
) -> None:
    size_mismatch = r"size mismatch in model\.layers\.0\.self_attn\.q_proj: \[4, 32\] in place of \[4, 48\]"
    with pytest.raises(OperandError, match=f"doesn't fit .*{size_mismatch}"):
        attach(load_model(LLM(tiny_llama_other).weights, CPU), [lora_a])
    for layers in (1, 3):
        other_depth = new_llama(f"layers_{layers}", seed=31, num_hidden_layers=layers)
        with pytest.raises(OperandError, match=r"no counterpart, the first being model\.layers"):
            attach(load_model(LLM(other_depth).weights, CPU), [lora_a])


def test_a_prompt_tuning_adapter_is_refused(tmp_path: Path) -> None:
    config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(OperandError, match="PROMPT_TUNING"):
        adapter_config(str(tmp_path))


def test_a_missing_adapter_is_named(tiny_llama: str, tmp_path: Path, lora_a: str) -> None:
    for nowhere in ("./nowhere", "a b", "a\0b", "a--b/c..d", "a" * 300, "/" + "a" * 300):
        with pytest.raises(OperandError, match=re.escape(f"there is no adapter folder at {nowhere}")):
            adapter_config(nowhere)
    with pytest.raises(OperandError, match=r"has no adapter_config\.json"):
        adapter_config(tiny_llama)
    shutil.copy(Path(lora_a) / "adapter_config.json", tmp_path)
    with pytest.raises(OperandError, match=rf"the adapter {tmp_path} has no weights"):
        adapter_config(str(tmp_path))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(OperandError, match=rf"can't read the weights of the adapter {tmp_path}: "):
        attach(load_model(LLM(tiny_llama).weights, CPU), [str(tmp_path)])
