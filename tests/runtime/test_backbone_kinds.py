"""Which models get slots, which are recomputed, and which are refused."""

from typing import Any

import pytest
import torch

from arith.errors import OperandError
from arith.runtime.backbones.backbone import LaneRequest, make_backbone
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.runtime.plain import Plain, check, check_step, load, prompt


def test_layers_of_two_kinds_get_a_mask_each(tiny_llama: str, tmp_path: Any) -> None:
    import transformers

    config_class: Any = transformers.Gemma3TextConfig
    builder: Any = transformers.AutoModelForCausalLM
    config = config_class(
        vocab_size=270, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=512, sliding_window=8,
        sliding_window_pattern=2, initializer_range=0.5, final_logit_softcapping=30.0,
    )  # fmt: skip
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}
    torch.manual_seed(0)
    model = builder.from_config(config, dtype=torch.float32)
    model.eval().save_pretrained(tmp_path)
    backbone, plain = make_backbone(model, [], 270), Plain(str(tmp_path))
    assert isinstance(backbone, SlotBackbone)
    requests = [LaneRequest(None, prompt(length), 2) for length in (3, 40, 30)]
    lanes, logits = backbone.open(requests)
    for request, found in zip(requests, logits, strict=True):
        check(found, plain(request.tokens, 2))
    for seed in range(3):
        check_step(backbone, plain, lanes, seed)


def test_a_recurrent_model_is_recomputed(tiny_mamba: str) -> None:
    backbone, plain = make_backbone(load(tiny_mamba), [], 270), Plain(tiny_mamba)
    assert isinstance(backbone, RecomputeBackbone)
    assert backbone.slower == "it keeps a recurrent state"
    requests = [LaneRequest(None, prompt(length), keep) for length, keep in ((3, 1), (40, 7))]
    lanes, logits = backbone.open(requests)
    for request, found in zip(requests, logits, strict=True):
        check(found, plain(request.tokens, request.keep))
    check_step(backbone, plain, lanes[::-1], 0)
    backbone.close(lanes[:1])
    check_step(backbone, plain, lanes[1:], 1)


def test_a_model_that_ignores_the_mask_is_found_and_recomputed(tiny_llama: str) -> None:
    model = load(tiny_llama)
    for layer in model.model.layers:
        attend = layer.self_attn.forward
        layer.self_attn.forward = (
            lambda *args, attend=attend, attention_mask=None, past_key_values=None, **kwargs: attend(
                *args,
                attention_mask=None if past_key_values is not None else attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        )
    backbone = make_backbone(model, [], 270)
    assert isinstance(backbone, RecomputeBackbone)
    assert backbone.slower == "its logits over our KV cache differ from those of a plain forward"


def test_an_encoder_decoder_is_refused_by_name() -> None:
    import transformers

    config_class: Any = transformers.T5Config
    model = transformers.T5ForConditionalGeneration(
        config_class(
            vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    )
    with pytest.raises(OperandError, match=r"t5.*encoder-decoder"):
        make_backbone(model, [], 32)


def test_a_tiny_vocabulary_and_window_are_enough_for_slots() -> None:
    import transformers

    config_class: Any = transformers.LlamaConfig
    config = config_class(
        vocab_size=5, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8,
    )  # fmt: skip
    backbone = make_backbone(transformers.LlamaForCausalLM(config).train(False), [], 5)
    assert isinstance(backbone, SlotBackbone)
