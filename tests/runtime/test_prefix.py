"""Shared prefixes: what is found, who waits for whom, and how many tokens are run in the end."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.backbone import Backbone, LaneRequest, make_backbone
from arith.runtime.backbones.bucket import buckets
from arith.runtime.backbones.prefix import Prefill, PrefixIndex, common_length, split_wave

Tokens = st.lists(st.integers(0, 1), max_size=6).map(tuple)


@pytest.fixture
def model(tiny_llama: str) -> Any:
    return load_model(LLM(tiny_llama).weights, torch.device("cpu"))


@pytest.fixture
def backbone(tiny_llama: str) -> Backbone:
    return make_backbone(load_model(LLM(tiny_llama).weights, torch.device("cpu")), [], 270)


def words(start: int, length: int) -> tuple[int, ...]:
    return tuple((start * 37 + at * at) % 250 for at in range(length))


def open_and_check(
    backbone: Backbone, model: Any, prompts: list[tuple[int, ...]], keep: int = 1
) -> list[Any]:
    """Open lanes for the prompts and step them once: the logits have to be those of plain forwards."""
    lanes, logits = backbone.open([LaneRequest(None, tokens, keep) for tokens in prompts])
    ran = backbone.stats.tokens_run
    with torch.inference_mode():
        for tokens, found in zip(prompts, logits, strict=True):
            expected = model(input_ids=torch.tensor([list(tokens)])).logits[0, -keep:]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        after = backbone.step(lanes, range(len(lanes)))
        for lane, found in zip(lanes, after, strict=True):
            expected = model(input_ids=torch.tensor([lane.tokens])).logits[0, -1]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    backbone.stats.tokens_run = ran
    return lanes


@given(Tokens, Tokens)
def test_common_length_counts_equal_leading_tokens(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    expected = 0
    while expected < min(len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert common_length(left, right) == expected


@given(st.lists(Tokens, max_size=8), Tokens)
def test_the_index_finds_the_longest_prefix(stored: list[tuple[int, ...]], tokens: tuple[int, ...]) -> None:
    index = PrefixIndex((None, one, slot) for slot, one in enumerate(stored))
    slot, shared = index.longest(None, tokens)
    assert shared == max((common_length(one, tokens) for one in stored), default=0)
    assert shared == 0 or common_length(stored[slot], tokens) == shared
    assert index.longest("other", tokens)[1] == 0


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40))
def test_buckets_hold_each_prompt_once_and_little_padding(lengths: list[int]) -> None:
    groups = buckets(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    run = sum(len(group) * max(lengths[index] for index in group) for group in groups)
    assert run - sum(lengths) <= 0.02 * run


def test_equal_prompts_run_once(backbone: Backbone, model: Any) -> None:
    open_and_check(backbone, model, [words(1, 50)] * 6)
    assert backbone.stats.tokens_run == 50


def test_a_common_prefix_runs_once(backbone: Backbone, model: Any) -> None:
    system = words(1, 40)
    open_and_check(backbone, model, [(*system, *words(start, 10)) for start in range(2, 7)])
    assert backbone.stats.tokens_run == 40 + 5 * 10
    assert backbone.stats.forwards == 2 + 1


def test_nested_prefixes_run_once_each(backbone: Backbone, model: Any) -> None:
    system = words(1, 40)
    groups = [(*system, *words(start, 20)) for start in (2, 3)]
    open_and_check(backbone, model, [(*group, *words(start, 5)) for group in groups for start in (4, 5, 6)])
    assert backbone.stats.tokens_run == 40 + 2 * 20 + 6 * 5


def test_few_shared_tokens_make_no_further_wave(backbone: Backbone, model: Any) -> None:
    open_and_check(backbone, model, [(*words(1, 9), *words(start, 31)) for start in (2, 3)])
    assert backbone.stats.forwards == 1 + 1
    assert backbone.stats.tokens_run == 80


def test_a_prompt_starts_from_open_and_from_closed_lanes(backbone: Backbone, model: Any) -> None:
    first = open_and_check(backbone, model, [words(1, 60), words(2, 60)])
    backbone.close(first[:1])
    backbone.stats.reset()
    open_and_check(backbone, model, [(*words(1, 60), *words(3, 4)), (*words(2, 60), *words(3, 4))])
    assert backbone.stats.tokens_run == 8


def test_prefixes_survive_when_lanes_are_closed_in_any_order(backbone: Backbone, model: Any) -> None:
    prompts = [words(start, 30 + start) for start in range(1, 6)]
    lanes = open_and_check(backbone, model, prompts)
    backbone.close([lanes[0], lanes[3]])
    backbone.close([lanes[2], lanes[4], lanes[1]])
    backbone.stats.reset()
    open_and_check(backbone, model, [(*tokens, 7) for tokens in reversed(prompts)])
    assert backbone.stats.tokens_run == 5


def test_a_lane_continues_from_what_a_closed_lane_wrote(backbone: Backbone, model: Any) -> None:
    lanes = open_and_check(backbone, model, [words(1, 40)])
    for token in (5, 6, 7):
        backbone.step(lanes, [token])
    written = tuple(lanes[0].tokens)
    backbone.close(lanes)
    backbone.stats.reset()
    open_and_check(backbone, model, [(*written, 9)])
    assert backbone.stats.tokens_run == 1


def test_positions_whose_logits_are_wanted_run_again(backbone: Backbone, model: Any) -> None:
    open_and_check(backbone, model, [words(1, 60)])
    backbone.stats.reset()
    open_and_check(backbone, model, [words(1, 60)], keep=12)
    assert backbone.stats.tokens_run == 12


def test_equal_prompts_may_keep_different_numbers_of_positions(backbone: Backbone) -> None:
    _, logits = backbone.open([LaneRequest(None, words(1, 30), keep) for keep in (1, 30, 4)])
    assert [len(one) for one in logits] == [1, 30, 4]
    assert torch.equal(logits[0], logits[1][-1:])
    assert torch.equal(logits[2], logits[1][-4:])
    assert backbone.stats.tokens_run == 30


def test_adapters_share_no_prefix() -> None:
    prefills = [Prefill(adapter, words(1, 50), slot, 1) for slot, adapter in enumerate(("a", "b", None))]
    assert split_wave(prefills) == (prefills, [])
