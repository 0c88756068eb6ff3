"""Estimates made from configurations, compared with what loaded models and their caches take."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.adapters import attach
from arith.operands.loading import load_model
from arith.operands.memory import MemoryEstimate, estimate
from arith.operands.packed_linear import packs
from arith.operands.precision import default_dtype
from tests.operands.packed_size import packed_size

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding", "tiny_llama_padded"])
def test_the_estimate_is_what_the_model_and_its_cache_take(
    fixture: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    weights = LLM(request.getfixturevalue(fixture), dtype=dtype).weights
    model: Any = load_model(weights, CPU)
    with torch.inference_mode():
        cache = model(torch.tensor([[1, 2, 3, 4, 5]]), use_cache=True).past_key_values
    cached = sum(
        part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values)
    )
    assert estimate(weights, []) == MemoryEstimate(packed_size(model), cached // 5, model.dtype)


def test_a_recurrent_model_has_no_cache_that_grows(tiny_mamba: str) -> None:
    weights = LLM(tiny_mamba).weights
    assert estimate(weights, []) == MemoryEstimate(packed_size(load_model(weights, CPU)), 0, torch.float32)


def test_adapters_count_in_the_dtype_of_the_model(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    weights = LLM(tiny_llama, dtype="bfloat16").weights
    model, _ = attach(load_model(weights, CPU), [lora_a, lora_b])
    memory = estimate(weights, [lora_a, lora_b])
    assert memory is not None
    assert memory.weights_bytes == packed_size(model)


def test_quantised_weights_count_by_their_bits(tiny_llama: str) -> None:
    """Linear layers but the head: 2 · (2·32·32 + 2·16·32 + 3·32·64) = 18,432 weights at 1 or 4.5/8 bytes."""
    cuda = torch.device("cuda")
    plain = estimate(LLM(tiny_llama, dtype="float32").weights, [], cuda)
    assert plain is not None
    for quantization, size in (("8bit", 18432), ("4bit", 10368)):
        memory = estimate(LLM(tiny_llama, dtype="float32", quantization=quantization).weights, [], cuda)
        assert memory is not None
        assert plain.weights_bytes - memory.weights_bytes == 4 * 18432 - size


def test_a_local_folder_that_is_not_whole_is_told_by_what_it_lacks(tiny_llama: str, tmp_path: Path) -> None:
    shutil.copy(Path(tiny_llama) / "config.json", tmp_path)
    with pytest.raises(
        OperandError, match=f"the model folder {tmp_path} has no whole weights: it lacks model.safe"
    ):
        estimate(LLM(str(tmp_path)).weights, [])
    (tmp_path / "model.safetensors").touch()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(OperandError, match=r"it lacks model-2\.safetensors"):
        estimate(LLM(str(tmp_path)).weights, [])
    index.unlink()
    for broken in (
        "{",
        "{}",
        '{"model_type": "llama", "hidden_size": "x"}',
        '{"model_type": "llama", "hidden_size": 7}',
    ):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(OperandError, match=f"can't read the configuration of {tmp_path}: "):
            estimate(LLM(str(tmp_path)).weights, [])


def test_an_adapter_whose_file_is_damaged_is_named(tiny_llama: str, lora_a: str, tmp_path: Path) -> None:
    shutil.copy(Path(lora_a) / "adapter_config.json", tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"junk")
    with pytest.raises(OperandError, match=f"can't read the weights of the adapter {tmp_path}: "):
        estimate(LLM(tiny_llama).weights, [str(tmp_path)])


def test_a_missing_folder_is_an_error(tiny_llama: str) -> None:
    with pytest.raises(OperandError, match="no model folder at"):
        estimate(LLM("./nowhere").weights, [])
    with pytest.raises(OperandError, match="no adapter folder at"):
        estimate(LLM(tiny_llama).weights, ["./nowhere"])


def test_the_demo_model_is_estimated_without_converting_it(
    smollm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """134,515,008 weights, the embeddings twice if packed; 30 layers of 3 key-value heads of 64."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        weights = LLM(smollm, dtype=dtype).weights
        count = 134_515_008 + 49152 * 576 * packs(CPU, dtype)
        assert estimate(weights, [], CPU) == MemoryEstimate(count * size, 2 * 30 * 3 * 64 * size, dtype)
    by_itself = estimate(LLM(smollm).weights, [])
    assert by_itself is not None
    assert by_itself.dtype == default_dtype(LlamaConfig(dtype=torch.bfloat16), CPU)
    assert list(tmp_path.iterdir()) == []
