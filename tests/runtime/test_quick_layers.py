"""Layers, attention and feed-forward layers in fewer calls: where they are used, and what they give."""

import gc
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.operands.packed_linear import packs
from arith.runtime.backbones.backbone import Backbone, make_backbone
from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.own_forward import own_code
from arith.runtime.backbones.quick_attention import QuickAttention
from arith.runtime.backbones.quick_feed_forward import QuickFeedForward
from arith.runtime.backbones.quick_layer import QuickLayer
from tests.conftest import save_lora
from tests.runtime.plain import Plain, check, load, prompt
from tests.runtime.small_models import HEADS, LAYERS, SMALL, logits_of, plain_logits
from tests.runtime.small_models import save as save_model

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not packs(CPU, torch.float32), reason="this processor has no such kernels")
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
ATTENTION, FEED_FORWARD, LAYER = QuickAttention, QuickFeedForward, QuickLayer
ALL = {ATTENTION, FEED_FORWARD, LAYER}
KINDS: dict[str, tuple[dict[str, Any], set[type]]] = {
    "Llama": (SMALL, ALL),
    "Mistral": (SMALL | {"sliding_window": 8} | HEADS, ALL),
    "Qwen2": (SMALL, ALL),  # biases
    "Qwen3": (SMALL | HEADS, ALL),  # norms of queries and keys
    "Helium": (SMALL | {"head_dim": 8}, {FEED_FORWARD}),  # coordinates that alternate
    "Gemma3Text": (SMALL | HEADS | {"sliding_window": 8}, {ATTENTION, FEED_FORWARD}),  # norms behind, too
    "Granite": (SMALL | {"residual_multiplier": 0.5, "attention_multiplier": 0.3}, {ATTENTION, FEED_FORWARD}),
    "Olmo": (SMALL | {"clip_qkv": 0.5}, {FEED_FORWARD}),  # what it clips, no trial need meet
    "Olmo2": (SMALL, {FEED_FORWARD}),  # norms over all heads at once
    "Qwen3Moe": (SMALL | HEADS | EXPERTS, {ATTENTION, LAYER}),
    "Qwen2Moe": (SMALL | EXPERTS | {"shared_expert_intermediate_size": 24}, ALL),
    "SmolLM3": (SMALL | {"no_rope_layer_interval": 2}, ALL),  # every second layer is turned
    "CohereCompassText": (  # one norm for attention and feed-forward, and no angles for some layers
        SMALL
        | {
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 8,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": None,
            },
        },
        {ATTENTION, FEED_FORWARD},
    ),
}


def save(kind: str, folder: Path) -> str:
    return save_model(kind, KINDS[kind][0], folder)


def quick_parts(backbone: Backbone) -> Counter[type]:
    return Counter(type(vars(one)["quick"]) for one in backbone.model.model.modules() if "quick" in vars(one))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_over_slots_are_those_of_a_plain_forward(kind: str, tmp_path: Path) -> None:
    folder = save(kind, tmp_path)
    backbone = make_backbone(load(folder), [], 270)
    assert set(quick_parts(backbone)) == KINDS[kind][1]
    for found, expected in zip(logits_of(backbone), plain_logits(Plain(folder)), strict=True):
        check(found, expected)


def test_every_layer_of_a_llama_is_quick_and_runs_so_in_each_forward(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_backbone(load(tiny_llama), [], 270)
    layers = len(backbone.model.model.layers)
    assert quick_parts(backbone) == dict.fromkeys(ALL, layers)
    calls: Counter[type] = Counter()
    for part in ALL:
        own = part.__call__

        def counted(self: Any, *arguments: Any, own: Any = own, part: type = part, **named: Any) -> Any:
            calls[part] += 1
            return own(self, *arguments, **named)

        monkeypatch.setattr(part, "__call__", counted)
    logits_of(backbone)
    forwards = 4  # both prompts by themselves, the step, and further tokens
    assert calls == dict.fromkeys(ALL, forwards * layers)


def test_layers_without_positions_keep_the_code_of_the_model(tmp_path: Path) -> None:
    backbone = make_backbone(load(save("SmolLM3", tmp_path)), [], 270)
    assert quick_parts(backbone) == {ATTENTION: LAYERS // 2, FEED_FORWARD: LAYERS, LAYER: LAYERS // 2}


def test_lanes_have_their_own_adapters(tiny_llama: str, tmp_path: Path) -> None:
    adapters = [
        save_lora(tmp_path / str(seed), tiny_llama, seed=seed, r=seed, target_modules=targets)
        for seed, targets in (
            (2, ["q_proj", "v_proj", "o_proj", "down_proj"]),
            (3, ["k_proj", "gate_proj", "up_proj"]),
        )
    ]
    backbone = make_backbone(load(tiny_llama), adapters, 270)
    assert set(quick_parts(backbone)) == ALL
    mixed = logits_of(backbone, (adapters[0], adapters[1]))
    for number, adapter in enumerate(adapters):
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
        model.load_adapter(adapter)
        plain = Plain(tiny_llama)
        plain.model = model.train(False)
        for found, expected in zip(mixed[number::2], plain_logits(plain)[number::2], strict=True):
            check(found, expected)


def test_adapters_of_layers_that_flatten_lanes_and_tokens_are_tried_as_they_run(tmp_path: Path) -> None:
    folder = save("Qwen2Moe", tmp_path / "base")
    adapter = save_lora(tmp_path / "lora", folder, seed=2, r=2, target_modules=["shared_expert_gate"])
    backbone = make_backbone(load(folder), [adapter], 270)
    assert quick_parts(backbone)[LAYER] == LAYERS


@pytest.mark.skipif(not packs(CPU, torch.bfloat16), reason="this processor has no bfloat16")
def test_bfloat16_is_rounded_where_the_model_rounds(tiny_llama: str) -> None:
    weights = LLM(tiny_llama, dtype="bfloat16").weights
    backbone = make_backbone(load_model(weights, CPU), [], 270)
    assert set(quick_parts(backbone)) == ALL
    for found, expected in zip(logits_of(backbone), plain_logits(Plain(tiny_llama)), strict=True):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.2 * float(expected.std()))


def test_a_forward_without_slots_is_the_models_own(tiny_llama: str) -> None:
    model = make_backbone(load(tiny_llama), [], 270).model
    plain = Plain(tiny_llama)
    with torch.inference_mode():
        cached = model(input_ids=torch.tensor([prompt(9)]), use_cache=True)
        further = model(input_ids=torch.tensor([[4]]), past_key_values=cached.past_key_values)
    assert not isinstance(cached.past_key_values, SlotCache)
    check(cached.logits[0], plain(prompt(9), 9))
    check(further.logits[0], plain([*prompt(9), 4]))


def test_other_arithmetic_under_the_same_names_is_left_alone(tiny_llama: str) -> None:
    model = load(tiny_llama)
    mlp, layer = type(model.model.layers[0].mlp), type(model.model.layers[0])

    class Summed(mlp):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            down: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) + self.up_proj(x))
            return down

    class Parallel(layer):  # type: ignore[misc, valid-type]
        def forward(self, hidden_states: Any, position_embeddings: Any = None, attention_mask: Any = None,
                    past_key_values: Any = None, **others: Any) -> Any:  # fmt: skip
            attended, _ = self.self_attn(
                self.input_layernorm(hidden_states),
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
            )
            return hidden_states + attended + self.mlp(self.post_attention_layernorm(hidden_states))

    first, second = model.model.layers
    assert own_code(Summed.forward, ("x",), ("gate_proj", "up_proj", "act_fn", "down_proj"))
    first.mlp.__class__, second.__class__ = Summed, Parallel
    plain = Plain(tiny_llama)
    plain.model.model.layers[0].mlp.__class__, plain.model.model.layers[1].__class__ = Summed, Parallel
    backbone = make_backbone(model, [], 270)
    assert quick_parts(backbone) == {ATTENTION: 2, FEED_FORWARD: 1, LAYER: 1}
    for found, expected in zip(logits_of(backbone), plain_logits(plain), strict=True):
        check(found, expected)


def test_what_only_looks_like_a_layer_neither_runs_so_nor_fails(tiny_llama: str) -> None:
    """One that gives a tuple, and one whose first norm has no weight."""
    model, plain = load(tiny_llama), Plain(tiny_llama)
    kind = type(model.model.layers[0])

    class InATuple(kind):  # type: ignore[misc, valid-type]
        def forward(self, hidden_states: Any, **kwargs: Any) -> Any:
            attended, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
            states = hidden_states + attended
            return (states + self.mlp(self.post_attention_layernorm(states)),)

    class Opened(nn.Module):
        def __init__(self, layer: Any):
            super().__init__()
            self.layer = layer

        def forward(self, *arguments: Any, **named: Any) -> Any:
            return self.layer(*arguments, **named)[0]

    for layers in (model.model.layers, plain.model.model.layers):
        layers[0].__class__ = InATuple
        layers[0], layers[1].input_layernorm = Opened(layers[0]), nn.Identity()
    backbone = make_backbone(model, [], 270)
    assert quick_parts(backbone) == {ATTENTION: 2, FEED_FORWARD: 2, LAYER: 1}
    for found, expected in zip(logits_of(backbone), plain_logits(plain), strict=True):
        check(found, expected)


def test_code_with_names_parameters_or_functions_of_its_own_is_another() -> None:
    def plain(self: Any, x: Any) -> Any:
        return self.down(self.up(x))

    def clipped(self: Any, x: Any) -> Any:
        return self.down(self.up(x).clamp(max=self.most))

    def shorter(self: Any, x: Any) -> Any:
        return self.down(x)

    def further(self: Any, x: Any, scale: Any = None) -> Any:
        return self.down(self.up(x))

    def within(self: Any, x: Any) -> Any:
        return self.down(self.up((lambda y: 2 * y)(x)))

    def enclosing(self: Any, x: Any) -> Any:
        return self.down(self.up(further))

    found = [
        own_code(one, ("x",), ("up", "down")) for one in (plain, clipped, shorter, further, within, enclosing)
    ]
    assert found == [True, False, False, False, False, False]
    assert own_code(clipped, ("x",), ("up", "down"), ("clamp", "most"))


def test_other_models_keep_their_classes_and_memory_is_freed_with_the_last_reference(tiny_llama: str) -> None:
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP

    own = [kind.forward for kind in (LlamaAttention, LlamaDecoderLayer, LlamaMLP)]
    backbone = make_backbone(load(tiny_llama), [], 270)
    assert [kind.forward for kind in (LlamaAttention, LlamaDecoderLayer, LlamaMLP)] == own
    layer = weakref.ref(backbone.model.model.layers[0])
    gc.collect()
    gc.disable()
    try:
        del backbone
        assert layer() is None
    finally:
        gc.enable()
