"""Lanes of different LoRA adapters in one forward, against peft running each adapter alone."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.errors import OperandError
from arith.operands.adapters import attach
from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.backbone import LaneRequest, make_backbone
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.conftest import save_lora

PROMPTS = ((1, 2, 3, 4, 5), tuple(range(60, 100)), (7, 8))


def load(path: str, dtype: str | None = None) -> Any:
    return load_model(LLM(path, dtype=dtype).weights, torch.device("cpu"))


@functools.cache
def runner(path: str, adapter: str | None) -> Any:
    return load(path) if adapter is None else attach(load(path), [adapter])[0]


@torch.inference_mode()
def alone(path: str, adapter: str | None, tokens: list[int] | tuple[int, ...]) -> Tensor:
    """All logits of a plain forward, the adapter run by peft."""
    logits: Tensor = runner(path, adapter)(input_ids=torch.tensor([list(tokens)])).logits
    return logits[0]


def check_mixed(path: str, adapters: list[str]) -> None:
    """Lanes of every adapter and of the bare base, prefilled and stepped together."""
    backbone = make_backbone(load(path), adapters, 270)
    assert isinstance(backbone, SlotBackbone)
    choices = [*adapters, None]
    requests = [LaneRequest(adapter, tokens, 2) for tokens in PROMPTS for adapter in choices]
    lanes, logits = backbone.open(requests)
    for request, found in zip(requests, logits, strict=True):
        expected = alone(path, request.adapter, request.tokens)[-2:]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    backbone.stats.reset()
    stepped = backbone.step(lanes, range(len(lanes)))
    assert backbone.stats.forwards == 1
    for lane, row in zip(lanes, stepped, strict=True):
        expected = alone(path, lane.adapter, lane.tokens)[-1]
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)
    assert (stepped[0] - stepped[len(adapters)]).abs().max() > 0.1, "the adapter changes something"


def test_two_adapters_and_the_bare_base_in_one_forward(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    check_mixed(tiny_llama, [lora_a, lora_b])


# peft says that it saves the embeddings too.
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_adapters_of_embeddings_and_output_layer(tiny_llama: str, lora_a: str, tmp_path: Path) -> None:
    whole = save_lora(
        tmp_path / "whole", tiny_llama, seed=31, r=3, lora_alpha=5,
        target_modules=["embed_tokens", "lm_head", "o_proj"],
    )  # fmt: skip
    check_mixed(tiny_llama, [whole, lora_a])


def test_adapters_of_gpt2(tiny_gpt2: str, tmp_path: Path) -> None:
    adapters = [
        save_lora(
            tmp_path / f"gpt2_{rank}",
            tiny_gpt2,
            seed=rank,
            r=rank,
            target_modules=targets,
            fan_in_fan_out=True,
        )
        for rank, targets in ((2, ["c_attn"]), (5, ["c_attn", "c_fc"]))
    ]
    check_mixed(tiny_gpt2, adapters)


def test_a_rank_of_a_single_layer_may_differ(tiny_llama: str, lora_a: str, tmp_path: Path) -> None:
    uneven = save_lora(
        tmp_path / "uneven", tiny_llama, seed=32, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 7}, alpha_pattern={"down_proj": 3},
    )  # fmt: skip
    check_mixed(tiny_llama, [lora_a, uneven])


def test_equal_prompts_of_two_adapters_are_prefilled_for_each(
    tiny_llama: str, lora_a: str, lora_b: str
) -> None:
    backbone = make_backbone(load(tiny_llama), [lora_a, lora_b], 270)
    prompt = tuple(range(40))
    backbone.open([LaneRequest(adapter, prompt) for adapter in (lora_a, lora_b, None) for _ in range(3)])
    assert (backbone.stats.forwards, backbone.stats.tokens_run) == (1, 3 * 40)


def test_a_recurrent_model_runs_its_adapters(tiny_mamba: str, tmp_path: Path) -> None:
    adapter = save_lora(tmp_path / "mamba", tiny_mamba, seed=33, r=4, target_modules=["in_proj", "x_proj"])
    backbone = make_backbone(load(tiny_mamba), [adapter], 270)
    assert isinstance(backbone, RecomputeBackbone)
    lanes, logits = backbone.open([LaneRequest(one, PROMPTS[1]) for one in (adapter, None)])
    for lane, found in zip(lanes, logits, strict=True):
        expected = alone(tiny_mamba, lane.adapter, lane.tokens)[-1:]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (logits[0] - logits[1]).abs().max() > 0.1


@pytest.mark.parametrize("fixture", ["lora_dora", "lora_modules_to_save"])
def test_what_cannot_be_mixed_runs_by_itself(
    fixture: str, tiny_llama: str, request: pytest.FixtureRequest
) -> None:
    adapter = request.getfixturevalue(fixture)
    backbone = make_backbone(load(tiny_llama), [adapter], 270)
    assert isinstance(backbone, SlotBackbone)
    lanes, logits = backbone.open([LaneRequest(adapter, tokens) for tokens in PROMPTS])
    for lane, found in zip(lanes, logits, strict=True):
        torch.testing.assert_close(found, alone(tiny_llama, adapter, lane.tokens)[-1:], rtol=1e-4, atol=1e-4)
    for lane, row in zip(lanes, backbone.step(lanes, [1, 2, 3]), strict=True):
        torch.testing.assert_close(row, alone(tiny_llama, adapter, lane.tokens)[-1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no lanes with the adapter None"):
        backbone.open([LaneRequest(None, PROMPTS[0])])


def test_what_cannot_be_mixed_is_refused_beside_others(tiny_llama: str, lora_a: str, lora_dora: str) -> None:
    with pytest.raises(OperandError, match=r"lora_dora.*DoRA"):
        make_backbone(load(tiny_llama), [lora_a, lora_dora], 270)


def test_adapters_in_bfloat16_stay_near_float32(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    backbone = make_backbone(load(tiny_llama, "bfloat16"), [lora_a, lora_b], 270)
    lanes, logits = backbone.open([LaneRequest(adapter, PROMPTS[0]) for adapter in (lora_a, lora_b, None)])
    for lane, found in zip(lanes, logits, strict=True):
        expected = alone(tiny_llama, lane.adapter, lane.tokens)[-1]
        assert found.dtype == torch.bfloat16
        assert (found[0].float() - expected).square().mean().sqrt() < 0.1 * expected.std()


def test_lanes_flattened_with_their_tokens_keep_their_adapters(
    tiny_llama: str, lora_a: str, lora_b: str
) -> None:
    """Some models run linear layers on `[lanes * tokens, hidden]`; others that shuffle tokens are refused."""
    model = load(tiny_llama)
    backbone = make_backbone(model, [lora_a, lora_b], 270)
    layer = model.model.layers[0].self_attn.q_proj
    backbone.open([LaneRequest(lora_a, PROMPTS[0]), LaneRequest(None, PROMPTS[0])])
    states = torch.randn(2, 5, 32)
    torch.testing.assert_close(layer(states.view(10, 32)), layer(states).view(10, -1))
    with pytest.raises(OperandError, match=r"q_proj.*\[7\] isn't 2 lanes of 5 tokens"):
        layer(states.view(10, 32)[:7])


def test_rank_masks_stay_where_they_are_in_memory(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    """A CUDA graph reads them where they were when it was recorded."""
    lanes = make_backbone(load(tiny_llama), [lora_a, lora_b], 270).adapters
    places = []
    for adapters in ([lora_a, lora_b, None], [None, lora_b, lora_b], [lora_b, None], [lora_b, lora_a]):
        lanes.select(adapters, 1)
        masks = [mask for mask in lanes.masks if mask is not None]
        for mask, (layout, *_) in zip(masks, lanes.layouts, strict=True):
            own = [sum(ranks for adapter, ranks in layout if adapter == one) for one in adapters]
            assert mask.sum(dim=(1, 2)).tolist() == own
        places.append([mask.data_ptr() for mask in masks])
        lanes.select([None] * 3, 1)
        assert set(lanes.masks) == {None}
    assert all(place == places[0] for place in places)
