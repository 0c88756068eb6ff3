"""Rotary embeddings in fewer operations: the numbers of the models' own, in the models that ask for them."""

import gc
import sys
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GlmConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen3Config,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from arith.runtime.backbones.rotary import Rotary, use_quick_rotary

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
PART_OF_A_HEAD = GPTNeoXConfig(
    **SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
)
IDS = torch.arange(2, 40).view(2, 19)


def tiny(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(1)
    builder: Any = AutoModelForCausalLM
    return builder.from_config(config, dtype=dtype).eval()


def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=ids).logits
    return found


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_and_keys_are_turned_as_by_transformers(
    tokens: int, dimension: int, dtype: torch.dtype
) -> None:
    rotary, embedding = Rotary(apply_rotary_pos_emb), LlamaRotaryEmbedding(LlamaConfig(**SMALL))
    generator = torch.Generator().manual_seed(0)
    for start in (0, 17, 40):  # other angles in every round
        q, k = (torch.randn(3, heads, tokens, 8, generator=generator).to(dtype) for heads in (4, 2))
        if dimension == 2:
            q, k = q.transpose(1, 2), k.transpose(1, 2)
        cos, sin = embedding(q, torch.arange(start, start + tokens)[None].expand(3, -1))
        for _layer in range(2):
            found = rotary(q, k, cos, sin, unsqueeze_dim=dimension)
            expected = apply_rotary_pos_emb(
                q.float(), k.float(), cos.float(), sin.float(), unsqueeze_dim=dimension
            )
            for mine, theirs in zip(found, expected, strict=True):
                assert mine.dtype == dtype
                unit = 2 * torch.finfo(dtype).eps
                torch.testing.assert_close(mine.float(), theirs, rtol=unit, atol=4 * unit)


def quick(model: Any) -> list[str]:
    """The kinds of modules that have a class of their own."""
    return sorted({type(one).__name__ for one in model.modules() if type(one) is not original(one)})


def original(module: Any) -> type:
    """The class of a module as transformers has it."""
    return getattr(sys.modules[type(module).__module__], type(module).__name__, type(module))


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        (LlamaConfig(**SMALL), ["LlamaAttention"]),
        (Qwen3Config(**SMALL), ["Qwen3Attention"]),
        (
            Gemma3TextConfig(
                **SMALL, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2
            ),
            ["Gemma3Attention"],
        ),
        (PART_OF_A_HEAD, ["GPTNeoXAttention"]),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_models_stay(config: Any, kinds: list[str], dtype: torch.dtype) -> None:
    """Gemma's layers have angles of two kinds, and of GPT-NeoX' heads only a part turns."""
    model = tiny(config, dtype)
    expected = logits(model)
    use_quick_rotary(model)
    assert quick(model) == kinds
    unit = (1e-4 if dtype == torch.float32 else 0.05) * float(expected.std())
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=3 * unit)
    torch.testing.assert_close(logits(model, IDS[:, :3]), expected[:, :3], rtol=0, atol=3 * unit)


def test_models_that_turn_in_another_way_are_left_as_they_are() -> None:
    """GLM's coordinates alternate."""
    model = tiny(GlmConfig(**SMALL))
    use_quick_rotary(model)
    assert quick(model) == []


def test_other_models_of_the_class_keep_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = tiny(LlamaConfig(**SMALL)), tiny(LlamaConfig(**SMALL))
    expected = logits(other)
    use_quick_rotary(mine)

    def fail(*_arguments: Any, **_named: Any) -> Any:
        raise AssertionError("another model uses it")

    monkeypatch.setattr(Rotary, "__call__", fail)
    assert torch.equal(logits(other), expected)
    with pytest.raises(AssertionError, match="another model"):
        logits(mine)


def test_a_model_that_is_dropped_is_gone_at_once() -> None:
    """Its memory has to be there for the next one."""
    model = tiny(LlamaConfig(**SMALL))
    use_quick_rotary(model)
    weights = [weakref.ref(layer.self_attn.q_proj.weight) for layer in model.model.layers]
    attentions = [weakref.ref(layer.self_attn) for layer in model.model.layers]
    logits(model)
    gc.collect()
    gc.disable()
    try:
        layers = model.model.layers
        del model
        while len(layers):
            del layers[0]
        assert not any(reference() is not None for reference in (*weights, *attentions))
    finally:
        gc.enable()


def test_a_forward_that_is_a_models_own_already_stays() -> None:
    """Hooks that move weights between devices put one there, say."""
    model = tiny(LlamaConfig(**SMALL))
    for layer in model.model.layers:
        layer.self_attn.forward = layer.self_attn.forward
    use_quick_rotary(model)
    assert quick(model) == []
