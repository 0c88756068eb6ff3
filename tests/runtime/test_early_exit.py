"""Early exits through prefill, steps and lanes of every kind: always the hidden states of plain forwards."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.operands import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.backbone import Backbone, Lane, LaneRequest, make_backbone
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.conftest import save_lora
from tests.runtime.early_reference import EXITS, check_early
from tests.runtime.plain import CPU, load, prompt


def recomputing(path: str) -> RecomputeBackbone:
    model, lanes = load(path), LaneAdapters()
    return RecomputeBackbone(model, 270, lanes, EarlyExits(model, EXITS, lanes, 270), slower="asked for")


@pytest.fixture(params=["slots", "recompute"])
def backbone(request: pytest.FixtureRequest, tiny_llama: str) -> Backbone:
    if request.param == "recompute":
        return recomputing(tiny_llama)
    made = make_backbone(load(tiny_llama), [], 270, exits=EXITS)
    assert isinstance(made, SlotBackbone)
    return made


def step(backbone: Backbone, lanes: list[Lane], seed: int) -> list[Tensor]:
    return list(backbone.step(lanes, prompt(len(lanes), seed))[:, None])


def test_ragged_lanes_that_keep_different_numbers_of_positions(backbone: Backbone, tiny_llama: str) -> None:
    requests = [
        LaneRequest(None, prompt(length), keep) for length, keep in ((3, 1), (40, 7), (41, 41), (1, 1))
    ]
    lanes, logits = backbone.open(requests)
    check_early(backbone, tiny_llama, lanes, logits)
    for seed in range(3):
        check_early(backbone, tiny_llama, lanes, step(backbone, lanes, seed))


def test_equal_and_overlapping_prompts_share_their_prefill(backbone: Backbone, tiny_llama: str) -> None:
    stem = prompt(40)
    requests = [LaneRequest(None, prompt(30), keep) for keep in (1, 30, 4)]
    requests += [LaneRequest(None, (*stem, *prompt(length)), 2) for length in (3, 9, 20)]
    lanes, logits = backbone.open(requests)
    check_early(backbone, tiny_llama, lanes, logits)
    again, logits = backbone.open([LaneRequest(None, (*stem, 7), 5), LaneRequest(None, prompt(30), 12)])
    check_early(backbone, tiny_llama, again, logits)


def test_a_step_of_some_lanes_leaves_what_the_others_keep(backbone: Backbone, tiny_llama: str) -> None:
    lanes, logits = backbone.open([LaneRequest(None, prompt(length), 2) for length in (5, 9, 20, 3, 12)])
    for seed, chosen in enumerate(([1, 2], [4, 0], [0, 2, 4], [2], [4, 3, 2, 1, 0])):
        stepped = step(backbone, [lanes[one] for one in chosen], seed)
        for one, row in zip(chosen, stepped, strict=True):
            logits[one] = row
        order = random.Random(seed).sample(range(5), 5)
        check_early(backbone, tiny_llama, [lanes[one] for one in order], [logits[one] for one in order])


def test_lanes_may_leave_and_enter_in_any_order(backbone: Backbone, tiny_llama: str) -> None:
    chance = random.Random(3)
    stems = [prompt(length) for length in (30, 45, 2)]
    logits: dict[Lane, Tensor] = {}
    for turn in range(25):
        action = chance.choice(["open", "step", "step", "close"])
        chosen = chance.sample(list(logits), chance.randint(1, len(logits))) if logits else []
        if action == "open" or not chosen:
            requests = [
                LaneRequest(
                    None, (*chance.choice(stems), *prompt(chance.randint(3, 9))), chance.randint(1, 5)
                )
                for _ in range(chance.randint(1, 4))
            ]
            lanes, opened = backbone.open(requests)
            logits.update(zip(lanes, opened, strict=True))
        elif action == "step":
            logits.update(zip(chosen, step(backbone, chosen, turn), strict=True))
        else:
            backbone.close(chosen)
            for lane in chosen:
                del logits[lane]
        if logits:
            check_early(backbone, tiny_llama, list(logits), list(logits.values()))


def test_a_lane_keeps_what_is_behind_each_of_the_tokens_it_got(backbone: Backbone, tiny_llama: str) -> None:
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20)])
    logits = backbone.extend(lanes, [prompt(number) for number in (3, 1, 6)])
    check_early(backbone, tiny_llama, lanes, logits)
    check_early(backbone, tiny_llama, lanes[::-1], logits[::-1])


def test_a_cropped_lane_keeps_what_is_behind_the_tokens_that_are_left(
    backbone: Backbone, tiny_llama: str
) -> None:
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20)])
    logits = backbone.extend(lanes, [prompt(number) for number in (6, 6, 2)])
    backbone.crop(lanes, [11, 11, 19])
    check_early(backbone, tiny_llama, lanes[:2], [logits[0], logits[1][:2]])
    early = backbone.early_logits(lanes, 1)
    assert [len(one) for one in early] == [6, 2, 0]
    assert [len(lane.early[0]) for lane in lanes] == [6, 2, 0]


def test_positions_kept_across_chunks_of_a_long_prompt(new_llama: Callable[..., str]) -> None:
    path = new_llama("tiny_llama_long_exits", seed=21, max_position_embeddings=2048)
    backbone = make_backbone(load(path), [], 270, exits=EXITS)
    requests = [
        LaneRequest(None, prompt(length), keep) for length, keep in ((520, 20), (1105, 600), (1100, 1))
    ]
    lanes, logits = backbone.open(requests)
    check_early(backbone, path, lanes, logits)
    check_early(backbone, path, lanes, step(backbone, lanes, 0))


# peft says that it saves the embeddings too.
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_adapters_of_all_lanes_act_on_their_own_hidden_states(
    tiny_llama: str, lora_a: str, lora_b: str, tmp_path: Path
) -> None:
    targets = ["embed_tokens", "v_proj", "lm_head"]
    whole = save_lora(tmp_path / "whole", tiny_llama, seed=31, r=2, target_modules=targets)
    adapters = [lora_a, lora_b, whole]
    backbone = make_backbone(load(tiny_llama), adapters, 270, exits=EXITS)
    assert isinstance(backbone, SlotBackbone)
    requests = [
        LaneRequest(adapter, prompt(length), keep)
        for adapter in (*adapters, None)
        for length, keep in ((8, 3), (30, 1))
    ]
    lanes, logits = backbone.open(requests)
    check_early(backbone, tiny_llama, lanes, logits)
    check_early(backbone, tiny_llama, lanes, step(backbone, lanes, 0))
    # After early logits in any order, the next forward has its own adapters again.
    check_early(backbone, tiny_llama, lanes[::-1], step(backbone, lanes[::-1], 1))
    early = backbone.early_logits(lanes, 1)
    assert (early[1] - early[-1]).abs().max() > 0.1, "the adapter changes something"


def test_an_output_layer_that_comes_with_an_adapter_is_used(
    tiny_llama: str, lora_modules_to_save: str
) -> None:
    backbone = make_backbone(load(tiny_llama), [lora_modules_to_save], 270, exits=EXITS)
    lanes, logits = backbone.open([LaneRequest(lora_modules_to_save, prompt(12), 3)])
    check_early(backbone, tiny_llama, lanes, logits)


def test_exits_cost_no_further_forward_and_leave_the_model_as_it_was(tiny_llama: str) -> None:
    model = load(tiny_llama)
    backbone = make_backbone(model, [], 270, exits=EXITS)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9)])
    runs: list[int] = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    backbone.stats.reset()
    for seed in range(3):
        step(backbone, lanes, seed)
        for exit in EXITS:
            backbone.early_logits(lanes, exit)
    handle.remove()
    assert (len(runs), backbone.stats.forwards, backbone.stats.tokens_run) == (3, 3, 6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_layer_that_works_in_place_does_not_change_what_is_kept(tiny_llama: str) -> None:
    model = load(tiny_llama)
    run = model.model.layers[1].forward

    def in_place(states: Tensor, *arguments: Any, **named: Any) -> Any:
        result = run(states, *arguments, **named)
        states.zero_()
        return result

    model.model.layers[1].forward = in_place
    backbone = make_backbone(model, [], 270, exits=EXITS)
    lanes, logits = backbone.open([LaneRequest(None, prompt(length), 2) for length in (5, 9)])
    check_early(backbone, tiny_llama, lanes, logits)
    check_early(backbone, tiny_llama, lanes, step(backbone, lanes, 0))


def test_without_exits_nothing_is_kept(tiny_llama: str) -> None:
    model = load(tiny_llama)
    backbone = make_backbone(model, [], 270)
    hooks: list[int] = []
    model.model.layers[1].register_forward_hook(
        lambda *_: hooks.append(sum(len(layer._forward_hooks) for layer in model.model.layers))
    )
    lanes, _ = backbone.open([LaneRequest(None, prompt(5), 3)])
    step(backbone, lanes, 0)
    assert hooks == [1, 1], "the test's own hook and none besides"
    assert lanes[0].early == {}
    with pytest.raises(ValueError, match="doesn't keep the exit 1"):
        backbone.early_logits(lanes, 1)


def test_only_the_exits_asked_for_are_kept(tiny_llama: str) -> None:
    some = make_backbone(load(tiny_llama), [], 270, exits=[1, 1])
    lanes, _ = some.open([LaneRequest(None, prompt(5))])
    assert list(lanes[0].early) == [1]
    with pytest.raises(ValueError, match="doesn't keep the exit 2"):
        some.early_logits(lanes, 2)


def test_a_closed_lane_keeps_nothing(backbone: Backbone) -> None:
    lanes, _ = backbone.open([LaneRequest(None, prompt(5)), LaneRequest(None, prompt(6))])
    backbone.close(lanes[:1])
    assert lanes[0].early == {}
    assert list(lanes[1].early) == list(EXITS)


def test_a_closed_lane_has_no_early_logits(tiny_llama: str) -> None:
    backbone = make_backbone(load(tiny_llama), [], 270, exits=EXITS)
    lanes, _ = backbone.open([LaneRequest(None, prompt(5)), LaneRequest(None, prompt(6))])
    backbone.close(lanes[:1])
    with pytest.raises(ValueError, match="isn't open"):
        backbone.early_logits(lanes, 1)


def test_early_logits_are_cut_to_the_vocabulary(tiny_llama_padded: str) -> None:
    backbone = make_backbone(load(tiny_llama_padded), [], 271, exits=[1])
    lanes, _ = backbone.open([LaneRequest(None, prompt(4), 2), LaneRequest(None, prompt(5))])
    assert [one.shape for one in backbone.early_logits(lanes, 1)] == [(2, 271), (1, 271)]


def test_bfloat16_stays_bfloat16(tiny_llama: str) -> None:
    model = load_model(LLM(tiny_llama, dtype="bfloat16").weights, CPU)
    backbone = make_backbone(model, [], 270, exits=EXITS)
    lanes, logits = backbone.open([LaneRequest(None, prompt(30))])
    assert lanes[0].early[1].dtype == backbone.early_logits(lanes, 1)[0].dtype == torch.bfloat16
    torch.testing.assert_close(backbone.early_logits(lanes, 2)[0], logits[0])
