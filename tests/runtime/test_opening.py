"""Lanes opened in slices: the results of `open`, while the other lanes go on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.errors import PromptError
from arith.runtime.backbones.backbone import Backbone, Lane, LaneRequest, Opening, make_backbone
from arith.runtime.backbones.cache import SlotCache
from tests.runtime.early_reference import EXITS, check_early
from tests.runtime.plain import Plain, check, check_step, load, prompt


@pytest.fixture(params=["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding", "tiny_mamba"])
def made(request: pytest.FixtureRequest) -> tuple[Backbone, Plain]:
    path = request.getfixturevalue(request.param)
    return make_backbone(load(path), [], 270), Plain(path)


@pytest.fixture
def slots(tiny_llama: str) -> Backbone:
    return make_backbone(load(tiny_llama), [], 270)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """How each forward reads its slots: a slice, or a tensor of slots, which takes a copy."""
    seen: list[Any] = []
    place = SlotCache.place

    def noting(cache: SlotCache, slots: Tensor, positions: Tensor, rows: Any, length: int) -> None:
        seen.append(rows)
        place(cache, slots, positions, rows, length)

    monkeypatch.setattr(SlotCache, "place", noting)
    return seen


def finish(opening: Opening, budget: int) -> int:
    """Advance until all is done; how many times."""
    times = 1
    while not opening.advance(budget):
        times += 1
        assert times < 1000
    return times


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_slices_of_any_size_give_plain_logits(made: tuple[Backbone, Plain], budget: int) -> None:
    backbone, plain = made
    requests = [
        LaneRequest(None, prompt(length), keep) for length, keep in ((3, 1), (40, 7), (41, 41), (1, 1))
    ]
    opening = backbone.begin(requests)
    finish(opening, budget)
    for lane, request, found in zip(opening.lanes, requests, opening.logits, strict=True):
        assert lane.tokens == list(request.tokens)
        assert found.shape == (request.keep, 270)
        check(found, plain(request.tokens, request.keep))
    check_step(backbone, plain, opening.lanes, 0)


def test_other_lanes_are_run_opened_and_closed_between_the_slices(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20)])
    first = backbone.begin([LaneRequest(None, prompt(length)) for length in (70, 90)])
    second = backbone.begin([LaneRequest(None, prompt(length), 2) for length in (50, 12)])
    first.advance(40)
    check_step(backbone, plain, lanes, 0)
    backbone.close(lanes[:1])
    more, logits = backbone.open([LaneRequest(None, prompt(33)), LaneRequest(None, prompt(70))])
    check(logits[1], plain(prompt(70)))
    second.advance(40)
    check_step(backbone, plain, [*more, lanes[2], lanes[1]], 1)
    finish(second, 40)
    backbone.crop([lanes[1]], [4])
    check_step(backbone, plain, [lanes[1], *second.lanes, more[0]], 2)
    backbone.close([*more, lanes[1]])
    finish(first, 40)
    check(first.logits[1], plain(prompt(90)))
    check_step(backbone, plain, [*first.lanes, lanes[2], *second.lanes], 3)


def test_open_lanes_are_read_without_a_copy_all_the_while(slots: Backbone, reads: list[Any]) -> None:
    lanes, _ = slots.open([LaneRequest(None, prompt(length)) for length in (5, 9, 20, 4)])
    opening = slots.begin([LaneRequest(None, prompt(length)) for length in (70, 90)])
    reads.clear()

    def step(lanes: list[Lane]) -> None:
        slots.step(lanes, prompt(len(lanes)))

    opening.advance(40)
    step(lanes)
    slots.close([lanes[1]])
    step([lanes[0], lanes[3], lanes[2]])
    finish(opening, 1000)
    step([lanes[0], lanes[3], lanes[2], *opening.lanes])
    assert all(isinstance(rows, slice) for rows in reads)
    assert reads[-1] == slice(0, 5, 1)


def test_a_slice_keeps_to_its_budget_and_uses_at_least_half_of_it(slots: Backbone) -> None:
    lengths = (400, 390, 120, 77, 76, 75, 31, 2)
    opening = slots.begin([LaneRequest(None, prompt(length, length)) for length in lengths])
    done, ran = False, []
    while not done:
        slots.stats.reset()
        done = opening.advance(100)
        ran.append(slots.stats.tokens_run)
    assert max(ran) <= 100
    assert min(ran[:-1]) >= 50
    assert sum(ran) <= 1.02 * sum(lengths)


def test_a_prompt_that_cannot_be_sliced_runs_as_a_whole(tiny_mamba: str) -> None:
    backbone = make_backbone(load(tiny_mamba), [], 270)
    backbone.stats.reset()
    opening = backbone.begin([LaneRequest(None, prompt(length)) for length in (30, 40, 30, 10, 5)])
    ran = []
    while not opening.advance(50):
        ran.append(backbone.stats.tokens_run)
    assert ran == [30, 30 + 40]
    assert backbone.stats.tokens_run == 30 + 40 + 10 + 5


def test_slices_share_equal_prompts_and_prefixes_as_open_does(tiny_llama: str) -> None:
    stem = prompt(60)
    requests = [LaneRequest(None, prompt(30), keep) for keep in (1, 30, 4)]
    requests += [LaneRequest(None, (*stem, *prompt(length)), 2) for length in (3, 9, 20)]
    whole, sliced = (make_backbone(load(tiny_llama), [], 270, exits=EXITS) for _ in range(2))
    whole.stats.reset()
    sliced.stats.reset()
    _, expected = whole.open(requests)
    opening = sliced.begin(requests)
    assert finish(opening, 25) > 4
    assert sliced.stats.tokens_useful == whole.stats.tokens_useful == 30 + 60 + 3 + 9 + 20
    for found, own in zip(opening.logits, expected, strict=True):
        torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)
    check_early(sliced, tiny_llama, opening.lanes, opening.logits)


@pytest.mark.parametrize(("budget", "times"), [(900, 3), (10_000, 1)])
def test_positions_kept_from_several_chunks_of_a_long_prompt(
    new_llama: Callable[..., str], budget: int, times: int
) -> None:
    path = new_llama(f"tiny_llama_long_{budget}", seed=21, max_position_embeddings=2048)
    backbone, plain = make_backbone(load(path), [], 270), Plain(path)
    backbone.stats.reset()
    opening = backbone.begin([LaneRequest(None, prompt(1100), 700), LaneRequest(None, prompt(1105))])
    assert finish(opening, budget) == times
    assert backbone.stats.forwards == 3, "no more than 512 tokens of a prompt at once"
    check(opening.logits[0], plain(prompt(1100), 700))
    check_step(backbone, plain, opening.lanes, 0)


def test_prompts_that_wait_for_a_prefix_may_be_moved_by_lanes_that_open_first(
    slots: Backbone, tiny_llama: str
) -> None:
    plain, stem = Plain(tiny_llama), prompt(60)
    opening = slots.begin([LaneRequest(None, (*stem, *prompt(length))) for length in (3, 9, 20)])
    assert not opening.advance(20)
    lanes, _ = slots.open([LaneRequest(None, prompt(length)) for length in (30, 31)])
    slots.stats.reset()
    finish(opening, 200)
    assert slots.stats.tokens_useful == 60 - 20 + 3 + 9 + 20
    for lane, found in zip(opening.lanes, opening.logits, strict=True):
        check(found, plain(lane.tokens))
    check_step(slots, plain, [*lanes, *opening.lanes], 0)


def test_lanes_can_not_be_used_before_they_are_open(slots: Backbone) -> None:
    opening = slots.begin([LaneRequest(None, prompt(50))])
    assert not opening.advance(10)
    assert opening.logits == []
    for use in (slots.close, lambda lanes: slots.crop(lanes, [1]), lambda lanes: slots.extend(lanes, [[1]])):
        with pytest.raises(ValueError, match="isn't open"):
            use(opening.lanes)


def test_a_cancelled_opening_leaves_its_slots_and_what_it_ran(slots: Backbone, tiny_llama: str) -> None:
    plain = Plain(tiny_llama)
    lanes, _ = slots.open([LaneRequest(None, prompt(8))])
    opening = slots.begin([LaneRequest(None, prompt(100))])
    opening.advance(64)
    opening.cancel()
    with pytest.raises(ValueError, match="aren't being opened"):
        opening.advance()
    room = slots.cache_bytes
    slots.stats.reset()
    more, logits = slots.open([LaneRequest(None, prompt(100))])
    assert slots.stats.tokens_run == 100 - 64
    assert slots.cache_bytes == room
    check(logits[0], plain(prompt(100)))
    check_step(slots, plain, [*more, *lanes], 0)


def test_an_opening_ends_once(made: tuple[Backbone, Plain]) -> None:
    backbone, plain = made
    opening = backbone.begin([LaneRequest(None, prompt(9))])
    assert opening.advance()
    with pytest.raises(ValueError, match="aren't being opened"):
        opening.advance()
    opening.cancel()
    check_step(backbone, plain, opening.lanes, 0)


def test_a_reset_ends_openings(slots: Backbone) -> None:
    opening = slots.begin([LaneRequest(None, prompt(9))])
    slots.reset()
    with pytest.raises(ValueError, match="aren't being opened"):
        opening.advance()


def test_a_prompt_beyond_the_window_is_refused_at_once(slots: Backbone) -> None:
    with pytest.raises(PromptError, match="600 tokens"):
        slots.begin([LaneRequest(None, prompt(5)), LaneRequest(None, prompt(600))])
    assert slots.cache_bytes == 0


def test_nothing_to_open_is_done_at_once(made: tuple[Backbone, Plain]) -> None:
    opening = made[0].begin([])
    assert opening.advance(10)
    assert (opening.lanes, opening.logits) == ([], [])
