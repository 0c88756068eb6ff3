"""Several tokens for each lane in one forward, and lanes that forget their last ones: as plain forwards."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaAttention

from arith.errors import PromptError
from arith.operands.adapters import attach
from arith.runtime.backbones.backbone import Backbone, Lane, LaneRequest, make_backbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.runtime.plain import Plain, check, check_step, load, prompt

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding", "tiny_mamba"]


@pytest.fixture(params=MODELS)
def made(request: pytest.FixtureRequest) -> tuple[Backbone, Plain]:
    path = request.getfixturevalue(request.param)
    backbone = make_backbone(load(path), [], 270)
    assert isinstance(backbone, SlotBackbone) == (request.param != "tiny_mamba")
    return backbone, Plain(path)


@pytest.fixture
def slots(tiny_llama: str) -> Backbone:
    return make_backbone(load(tiny_llama), [], 270)


def check_extend(backbone: Backbone, plain: Plain, lanes: Sequence[Lane], numbers: Sequence[int]) -> None:
    """The lanes get so many tokens each; every row of their logits against the plain forward."""
    before = [list(lane.tokens) for lane in lanes]
    tokens = [prompt(number, seed) for seed, number in enumerate(numbers)]
    logits = backbone.extend(lanes, tokens)
    for lane, own, added, found in zip(lanes, before, tokens, logits, strict=True):
        assert lane.tokens == [*own, *added]
        assert found.shape == (len(added), 270)
        check(found, plain(lane.tokens, len(added)))


def test_each_lane_gets_its_own_number_of_tokens(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (3, 40, 21, 1)])
    check_extend(backbone, plain, lanes, [4, 1, 7, 2])
    check_step(backbone, plain, lanes, 0)
    check_extend(backbone, plain, [lanes[3], lanes[0]], [30, 3])
    check_extend(backbone, plain, [lanes[2], lanes[1], lanes[0]], [1, 1, 1])
    check_step(backbone, plain, lanes[::-1], 1)


def test_code_that_does_not_tell_attention_which_lane_a_token_is_of_runs_padded(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = LlamaAttention.forward

    def forgetful(self: LlamaAttention, *args: Any, ragged: Any = None, **kwargs: Any) -> Any:
        return attention(self, *args, **kwargs)

    monkeypatch.setattr(LlamaAttention, "forward", forgetful)
    backbone, plain = make_backbone(load(tiny_llama), [], 270), Plain(tiny_llama)
    assert isinstance(backbone, SlotBackbone)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (3, 40, 21)])
    backbone.stats.reset()
    check_extend(backbone, plain, lanes, [4, 1, 2])
    assert (backbone.stats.tokens_run, backbone.stats.tokens_useful) == (12, 7)


def test_a_cropped_lane_goes_on_from_what_is_left(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (30, 12, 50)])
    check_extend(backbone, plain, lanes, [5, 3, 20])
    kept = [list(lane.tokens) for lane in lanes]
    lengths = [33, 2, 26]  # into what was appended, into the prompt, and by more than a window of 16
    backbone.crop(lanes, lengths)
    assert [lane.tokens for lane in lanes] == [
        own[:length] for own, length in zip(kept, lengths, strict=True)
    ]
    check_step(backbone, plain, lanes, 2)
    check_extend(backbone, plain, lanes[::-1], [1, 6, 2])


def test_cropping_some_lanes_leaves_the_others(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (9, 12, 20)])
    backbone.crop([lanes[2], lanes[0]], [20, 0])
    assert [len(lane.tokens) for lane in lanes] == [0, 12, 20]
    check_step(backbone, plain, lanes, 0)


def test_cropping_computes_nothing(slots: Backbone) -> None:
    lanes, _ = slots.open([LaneRequest(None, prompt(30))])
    slots.stats.reset()
    slots.crop(lanes, [7])
    slots.step(lanes, [1])
    assert (slots.stats.forwards, slots.stats.tokens_run) == (1, 1)


def test_no_prompt_starts_from_tokens_that_were_cropped(slots: Backbone, tiny_llama: str) -> None:
    plain = Plain(tiny_llama)
    stem, first, second = prompt(20), prompt(30, 1), prompt(30, 2)
    lanes, _ = slots.open([LaneRequest(None, (*stem, *first))])
    slots.crop(lanes, [20])
    slots.extend(lanes, [second])
    slots.stats.reset()
    opened, logits = slots.open([LaneRequest(None, (*stem, *first, 5))])
    assert slots.stats.tokens_run == 31
    check(logits[0], plain((*stem, *first, 5)))
    slots.crop(lanes, [25])
    slots.close(lanes)
    slots.close(opened)
    slots.stats.reset()
    _, logits = slots.open([LaneRequest(None, (*stem, *second, 5))])
    assert slots.stats.tokens_run == 26, "of the closed lane, what it had not forgotten"
    check(logits[0], plain((*stem, *second, 5)))


def test_lanes_of_all_adapters_extend_in_one_forward(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    backbone = make_backbone(load(tiny_llama), [lora_a, lora_b], 270)
    plain = {adapter: Plain(tiny_llama) for adapter in (None, lora_a, lora_b)}
    for adapter in (lora_a, lora_b):
        attach(plain[adapter].model, [adapter])
    lanes, _ = backbone.open([LaneRequest(adapter, prompt(9)) for adapter in (lora_b, None, lora_a, lora_b)])
    backbone.stats.reset()
    logits = backbone.extend(lanes, [prompt(number) for number in (2, 5, 1, 3)])
    stats = backbone.stats
    assert (stats.forwards, stats.tokens_run, stats.tokens_useful) == (1, 11, 2 + 5 + 1 + 3), "no padding"
    for lane, found in zip(lanes, logits, strict=True):
        check(found, plain[lane.adapter](lane.tokens, len(found)))


def test_one_token_each_is_a_step(made: tuple[Backbone, Plain]) -> None:
    backbone, _ = made
    requests = [LaneRequest(None, prompt(length)) for length in (5, 30)]
    lanes, _ = backbone.open([*requests, *requests])
    extended = backbone.extend(lanes[:2], [[7], [8]])
    stepped = backbone.step(lanes[2:], [7, 8])
    torch.testing.assert_close(torch.cat(extended), stepped, rtol=0, atol=1e-5)


def test_a_lane_extends_up_to_its_context_window(slots: Backbone, tiny_llama: str) -> None:
    plain = Plain(tiny_llama)
    lanes, _ = slots.open([LaneRequest(None, prompt(500)), LaneRequest(None, prompt(4))])
    with pytest.raises(PromptError, match=r"513 tokens .* context window .*512"):
        slots.extend(lanes, [prompt(13), prompt(2)])
    assert [len(lane.tokens) for lane in lanes] == [500, 4]
    check_extend(slots, plain, lanes, [12, 2])
    slots.crop(lanes, [510, 6])
    check_extend(slots, plain, lanes, [2, 9])  # padding doesn't leave the window either


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("numbers", "keep"),
    [((40, 1, 7), (2, 1, 3)), ((6, 6, 6), (2, 1, 3)), ((6, 6, 6), (6, 1, 3)), ((4, 2, 3), (4, 1, 2))],
)
def test_logits_are_computed_where_they_are_kept(
    model: str,
    numbers: tuple[int, ...],
    keep: tuple[int, ...],
    padded: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of a lane that lags far behind would fill the memory."""
    if padded:
        monkeypatch.setattr("arith.runtime.backbones.backbone.runs_ragged", lambda *_: False)
    path = request.getfixturevalue(model)
    loaded, plain = load(path), Plain(path)
    backbone = make_backbone(loaded, [], 270)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (3, 20, 9)])
    head: Any = loaded.get_output_embeddings()
    counts: list[int] = []
    handle = head.register_forward_hook(lambda *of: counts.append(of[-1].shape[:-1].numel()))
    logits = backbone.extend(lanes, [prompt(number, 5) for number in numbers], keep)
    handle.remove()
    assert 0 < sum(counts) <= 3 * max(keep)
    for lane, own, kept in zip(lanes, logits, keep, strict=True):
        assert len(own) == kept
        check(own, plain(lane.tokens, kept))
    check_step(backbone, plain, lanes, 0)


def test_what_cannot_be_done_changes_no_lane(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (8, 6)])
    with pytest.raises(ValueError, match="at least one token"):
        backbone.extend(lanes, [[1, 2], []])
    with pytest.raises(ValueError, match="at least one token"):
        backbone.extend(lanes, [[1, 2]])
    for keep in ([1], [0, 1], [3, 1]):
        with pytest.raises(ValueError, match="of one of its new tokens at least, and of all at most"):
            backbone.extend(lanes, [[1, 2], [3]], keep)
    for lengths in ([3, -1], [3, 7]):
        with pytest.raises(ValueError, match=f"6 tokens can't be cropped to {lengths[1]}"):
            backbone.crop(lanes, lengths)
    assert [tuple(lane.tokens) for lane in lanes] == [prompt(8), prompt(6)]
    check_step(backbone, plain, lanes, 0)


def test_a_closed_lane_can_be_neither_extended_nor_cropped(slots: Backbone) -> None:
    lanes, _ = slots.open([LaneRequest(None, prompt(5)), LaneRequest(None, prompt(6))])
    slots.close(lanes[:1])
    with pytest.raises(ValueError, match="isn't open"):
        slots.extend(lanes, [[1], [2]])
    with pytest.raises(ValueError, match="isn't open"):
        slots.crop(lanes, [1, 1])
    assert len(lanes[1].tokens) == 6
