"""Backbones against plain forwards of the same model without any cache."""

import random
from typing import Any

import pytest
import torch

from arith.errors import PromptError
from arith.operands.adapters import attach
from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.backbone import Lane, LaneRequest, make_backbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.runtime.plain import CPU, Plain, check, check_step, load, prompt


@pytest.fixture(params=["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding"])
def slotted(request: pytest.FixtureRequest) -> tuple[SlotBackbone, Plain]:
    path = request.getfixturevalue(request.param)
    backbone = make_backbone(load(path), [], 270)
    assert isinstance(backbone, SlotBackbone)
    assert backbone.slower is None
    return backbone, Plain(path)


def test_ragged_lanes_equal_plain_forwards(slotted: tuple[SlotBackbone, Plain]) -> None:
    backbone, plain = slotted
    requests = [
        LaneRequest(None, prompt(length), keep) for length, keep in ((3, 1), (40, 7), (41, 41), (1, 1))
    ]
    lanes, logits = backbone.open(requests)
    for request, found in zip(requests, logits, strict=True):
        assert found.shape == (request.keep, 270)
        check(found, plain(request.tokens, request.keep))
    for seed in range(3):
        check_step(backbone, plain, lanes, seed)


def test_lanes_may_leave_and_enter_in_any_order(slotted: tuple[SlotBackbone, Plain]) -> None:
    backbone, plain = slotted
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20, 3, 12, 30)])
    check_step(backbone, plain, lanes, 0)
    backbone.close([lanes[4], lanes[0], lanes[2]])
    left = [lanes[5], lanes[1], lanes[3]]
    check_step(backbone, plain, left, 1)
    entering, logits = backbone.open([LaneRequest(None, prompt(17)), LaneRequest(None, prompt(6))])
    check(logits[0], plain(prompt(17)))
    check(logits[1], plain(prompt(6)))
    check_step(backbone, plain, [entering[1], *left, entering[0]], 2)
    backbone.close([*left, entering[0]])
    check_step(backbone, plain, [entering[1]], 3)


def test_steps_of_some_lanes_leave_the_others_as_they_were(slotted: tuple[SlotBackbone, Plain]) -> None:
    backbone, plain = slotted
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20, 3, 12)])
    for seed, chosen in enumerate(([1, 2], [4, 0], [0, 2, 4], [3, 0, 1], [2], [4, 3, 2, 1, 0])):
        check_step(backbone, plain, [lanes[one] for one in chosen], seed)


def test_the_pool_grows_without_changing_a_result(slotted: tuple[SlotBackbone, Plain]) -> None:
    backbone, plain = slotted
    lanes, _ = backbone.open([LaneRequest(None, prompt(250)), LaneRequest(None, prompt(10))])
    for seed in range(10):
        check_step(backbone, plain, lanes, seed)
    more, logits = backbone.open([LaneRequest(None, prompt(300 + length)) for length in range(5)])
    for lane, found in zip(more, logits, strict=True):
        check(found, plain(lane.tokens))
    check_step(backbone, plain, [*lanes, *more], 10)


def test_prompts_longer_than_a_chunk_equal_plain_forwards(new_llama: Any) -> None:
    path = new_llama("tiny_llama_long", seed=21, max_position_embeddings=2048)
    backbone, plain = make_backbone(load(path), [], 270), Plain(path)
    requests = [LaneRequest(None, prompt(length), 20) for length in (520, 1100, 1105, 515)]
    lanes, logits = backbone.open(requests)
    for request, found in zip(requests, logits, strict=True):
        check(found, plain(request.tokens, 20))
    check_step(backbone, plain, lanes, 0)


@pytest.mark.parametrize("adapted", [False, True])
def test_any_order_of_opening_stepping_and_closing_gives_plain_logits(
    tiny_llama: str, lora_a: str, lora_b: str, adapted: bool
) -> None:
    adapters = [lora_a, lora_b] if adapted else []
    backbone = make_backbone(load(tiny_llama), adapters, 270)
    plain: dict[str | None, Plain] = {one: Plain(tiny_llama) for one in (None, *adapters)}
    for adapter in adapters:
        attach(plain[adapter].model, [adapter])
    chance = random.Random(7)
    stems = [prompt(length) for length in (30, 45, 2)]
    lanes: list[Lane] = []
    for _ in range(40):
        action = chance.choice(["open", "step", "step", "close"])
        if action == "open":
            requests = [
                LaneRequest(
                    chance.choice(list(plain)), (*chance.choice(stems), *prompt(chance.randint(1, 9)))
                )
                for _ in range(chance.randint(1, 4))
            ]
            opened, logits = backbone.open(requests)
            for lane, found in zip(opened, logits, strict=True):
                check(found, plain[lane.adapter](lane.tokens))
            lanes.extend(opened)
        elif action == "step" and lanes:
            chosen = chance.sample(lanes, chance.randint(1, len(lanes)))
            stepped = backbone.step(chosen, chance.choices(range(256), k=len(chosen)))
            for lane, row in zip(chosen, stepped, strict=True):
                check(row[None], plain[lane.adapter](lane.tokens))
        elif action == "close" and lanes:
            chosen = chance.sample(lanes, chance.randint(1, len(lanes)))
            backbone.close(chosen)
            lanes = [lane for lane in lanes if lane not in chosen]


def test_padding_is_under_two_percent_of_the_tokens(tiny_llama: str) -> None:
    backbone = make_backbone(load(tiny_llama), [], 270)
    backbone.open(
        [LaneRequest(None, prompt(length, seed)) for seed, length in enumerate((100, 7, 99, 350, 64, 98))]
    )
    assert backbone.stats.tokens_useful == 100 + 7 + 99 + 350 + 64 + 98
    assert backbone.stats.tokens_run <= 1.02 * backbone.stats.tokens_useful
    assert backbone.stats.forwards == 4


def test_a_step_is_one_forward_without_padding(tiny_llama: str) -> None:
    backbone = make_backbone(load(tiny_llama), [], 270)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 90, 20)])
    backbone.stats.reset()
    for _ in range(4):
        backbone.step(lanes, [1, 2, 3])
    assert (backbone.stats.forwards, backbone.stats.tokens_run, backbone.stats.tokens_useful) == (4, 12, 12)


def test_only_the_logits_asked_for_are_computed(tiny_llama: str) -> None:
    model = load(tiny_llama)
    backbone = make_backbone(model, [], 270)
    shapes: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda _head, _inputs, output: shapes.append(output.shape))
    backbone.open([LaneRequest(None, prompt(200)), LaneRequest(None, prompt(200, 1), 3)])
    assert [shape[1] for shape in shapes] == [3]


def test_logits_are_cut_to_the_vocabulary(tiny_llama_padded: str) -> None:
    backbone = make_backbone(load(tiny_llama_padded), [], 271)
    lanes, logits = backbone.open([LaneRequest(None, prompt(4))])
    assert logits[0].shape == (1, 271)
    assert backbone.step(lanes, [1]).shape == (1, 271)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_a_lane_fills_the_context_window_and_no_more(model: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    backbone, plain = make_backbone(load(path), [], 270), Plain(path)
    lanes, _ = backbone.open([LaneRequest(None, prompt(511)), LaneRequest(None, prompt(506))])
    check_step(backbone, plain, lanes, 0)
    with pytest.raises(PromptError, match=r"513 tokens .* context window .*512"):
        backbone.step(lanes, [1, 2])
    with pytest.raises(PromptError, match="600 tokens"):
        backbone.open([LaneRequest(None, prompt(600))])


def test_a_closed_lane_cannot_be_stepped(tiny_llama: str) -> None:
    backbone = make_backbone(load(tiny_llama), [], 270)
    lanes, _ = backbone.open([LaneRequest(None, prompt(5)), LaneRequest(None, prompt(6))])
    backbone.close(lanes[:1])
    with pytest.raises(ValueError, match="isn't open"):
        backbone.step(lanes, [1, 2])


def test_reset_frees_the_pool_and_starts_afresh(tiny_llama: str) -> None:
    backbone, plain = make_backbone(load(tiny_llama), [], 270), Plain(tiny_llama)
    assert isinstance(backbone, SlotBackbone)
    backbone.open([LaneRequest(None, prompt(50))])
    assert backbone.cache_bytes > 0
    backbone.reset()
    assert backbone.cache_bytes == 0
    backbone.stats.reset()
    lanes, logits = backbone.open([LaneRequest(None, prompt(50))])
    check(logits[0], plain(prompt(50)))
    assert backbone.stats.tokens_run == 50
    check_step(backbone, plain, lanes, 0)


def test_bfloat16_stays_bfloat16(tiny_llama: str) -> None:
    model = load_model(LLM(tiny_llama, dtype="bfloat16").weights, CPU)
    backbone = make_backbone(model, [], 270)
    assert isinstance(backbone, SlotBackbone)
    lanes, logits = backbone.open([LaneRequest(None, prompt(30)), LaneRequest(None, prompt(5))])
    assert logits[0].dtype == backbone.step(lanes, [1, 2]).dtype == torch.bfloat16
