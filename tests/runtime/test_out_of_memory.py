"""Memory that runs out, wherever it does, leaves the open lanes as they were."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.runtime.backbones.backbone import Backbone, Lane, LaneRequest, make_backbone
from arith.runtime.backbones.memory import out_of_memory
from tests.runtime.early_reference import EXITS, check_early
from tests.runtime.plain import Plain, check, check_step, load, prompt

FULL = torch.OutOfMemoryError("the test's memory is full")


@pytest.fixture(params=["tiny_llama", "tiny_mistral_sliding"])
def made(request: pytest.FixtureRequest) -> tuple[Backbone, Plain, Any]:
    path = request.getfixturevalue(request.param)
    model = load(path)
    return make_backbone(model, [], 270), Plain(path), model


@contextmanager
def allocations_fail(method: str, after: int) -> Iterator[list[int]]:
    """Within it, so many calls of a method of tensors that allocates succeed, and none after them."""
    calls: list[int] = []
    allocate = getattr(torch.Tensor, method)

    def failing(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        calls.append(1)
        if len(calls) > after:
            raise FULL
        result: Tensor = allocate(tensor, *arguments, **named)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, method, failing)
        yield calls


@contextmanager
def layer_fails(module: torch.nn.Module, after: int = 0) -> Iterator[None]:
    """Within it, the module has run (its keys and values are written) when memory runs out."""
    calls: list[int] = []

    def fail(*_arguments: Any) -> None:
        calls.append(1)
        if len(calls) > after:
            raise FULL

    handle = module.register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def check_unchanged(backbone: Backbone, lanes: list[Lane], action: Callable[[], Any]) -> None:
    """The action fails for want of memory, and the lanes have the tokens that they had."""
    before = [list(lane.tokens) for lane in lanes]
    with pytest.raises(torch.OutOfMemoryError):
        action()
    assert [lane.tokens for lane in lanes] == before


@pytest.mark.parametrize("after", range(4))  # two layers, keys and values
def test_a_pool_that_can_not_grow_goes_on_as_it_is(made: tuple[Backbone, Plain, Any], after: int) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(250)), LaneRequest(None, prompt(10))])
    long = [LaneRequest(None, prompt(length)) for length in (300, 20, 5)]
    with allocations_fail("new_zeros", after) as calls:
        check_unchanged(backbone, lanes, lambda: backbone.open(long))
        assert len(calls) == after + 1
        check_unchanged(backbone, lanes, lambda: backbone.extend(lanes, [[1] * 10, [2]]))
        check_step(backbone, plain, lanes, 0)
        check_step(backbone, plain, lanes[::-1], 1)
    # More slots than were asked for, of the length that all layers have.
    more, _ = backbone.open([LaneRequest(None, prompt(length)) for length in range(40, 46)])
    lanes += more
    check_step(backbone, plain, lanes, 3)
    more, logits = backbone.open(long)
    for lane, own in zip(more, logits, strict=True):
        check(own, plain(lane.tokens))
    check_step(backbone, plain, [*more, *lanes], 2)


def test_what_has_grown_is_not_grown_again(made: tuple[Backbone, Plain, Any]) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(250)), LaneRequest(None, prompt(10))])
    new = [[1] * 10, [2]]
    with allocations_fail("new_zeros", 3):
        check_unchanged(backbone, lanes, lambda: backbone.extend(lanes, new))
    with allocations_fail("new_zeros", 1):
        backbone.extend(lanes, new)
    check_step(backbone, plain, lanes, 0)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_forward_that_fails_halfway_is_as_if_not_begun(
    made: tuple[Backbone, Plain, Any], layer: int
) -> None:
    backbone, plain, model = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (9, 30, 4)])
    failing = model.model.layers[layer]
    new = [[1, 2, 3], [4], [5, 6]]
    with layer_fails(failing):
        check_unchanged(backbone, lanes, lambda: backbone.step(lanes, [1, 2, 3]))
        check_unchanged(backbone, lanes, lambda: backbone.extend(lanes, new))
        check_unchanged(backbone, lanes, lambda: backbone.open([LaneRequest(None, (*prompt(9), 1))]))
    check_step(backbone, plain, lanes, 0)
    backbone.extend(lanes, new)
    check_step(backbone, plain, lanes[::-1], 1)


def test_an_opening_that_fails_frees_its_slots_and_can_be_begun_anew(
    made: tuple[Backbone, Plain, Any],
) -> None:
    backbone, plain, model = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(9)), LaneRequest(None, prompt(12))])
    opening = backbone.begin([LaneRequest(None, prompt(100)), LaneRequest(None, prompt(60))])
    with layer_fails(model.model.layers[1], after=2):
        opening.advance(50)
        check_unchanged(backbone, lanes, opening.advance)
    with pytest.raises(ValueError, match="aren't being opened"):
        opening.advance()
    check_step(backbone, plain, lanes, 0)
    room = backbone.cache_bytes
    backbone.stats.reset()
    more, logits = backbone.open([LaneRequest(None, prompt(100))])
    assert backbone.stats.tokens_run < 100, "what ran before the failure is a prefix"
    assert backbone.cache_bytes == room
    check(logits[0], plain(prompt(100)))
    check_step(backbone, plain, [*more, *lanes], 1)


@pytest.mark.parametrize(
    "prompts",
    [
        [(*prompt(40), 1, 2)],  # from an open lane
        [prompt(80)] * 3,  # for equal prompts
        [(*prompt(50), *prompt(length)) for length in (3, 4, 5)],  # for a second wave
    ],
)
def test_copies_of_prefixes_that_fail_leave_no_lane(
    made: tuple[Backbone, Plain, Any], prompts: list[tuple[int, ...]]
) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(40))])
    before = backbone.cache_bytes
    requests = [LaneRequest(None, tokens) for tokens in prompts]
    with allocations_fail("new_empty", 0):
        check_unchanged(backbone, lanes, lambda: backbone.open(requests))
    backbone.trim()
    assert backbone.cache_bytes == before
    opened, logits = backbone.open(requests)
    for lane, own in zip(opened, logits, strict=True):
        check(own, plain(lane.tokens))
    check_step(backbone, plain, [*lanes, *opened], 0)


@pytest.mark.parametrize("after", range(3))
def test_lanes_move_as_a_whole_or_not_at_all(
    made: tuple[Backbone, Plain, Any], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the small tensors that moving takes can't be had."""
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (9, 30, 4)])
    whole, calls = torch.tensor, iter(range(10**6))

    def short(*arguments: Any, **named: Any) -> Tensor:
        if next(calls) >= after:
            raise FULL
        return whole(*arguments, **named)

    monkeypatch.setattr(torch, "tensor", short)
    backbone.close(lanes[:1])
    monkeypatch.undo()
    check_step(backbone, plain, lanes[1:], 0)
    backbone.close(lanes[1:2])
    check_step(backbone, plain, lanes[2:], 1)


def test_the_slots_of_closed_lanes_are_filled_when_there_is_memory(
    made: tuple[Backbone, Plain, Any],
) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (9, 30, 4, 12, 7)])
    with allocations_fail("new_empty", 0) as calls:
        backbone.close([lanes[0]])
        backbone.close([lanes[2]])
        backbone.trim()
        assert len(calls) == 3
    with pytest.raises(ValueError, match="isn't open"):
        backbone.step(lanes, [1, 2, 3, 4, 5])
    left = [lanes[1], lanes[3], lanes[4]]
    check_step(backbone, plain, left, 0)
    room = backbone.cache_bytes
    more, logits = backbone.open([LaneRequest(None, prompt(20))])
    assert backbone.cache_bytes == room
    check(logits[0], plain(prompt(20)))
    check_step(backbone, plain, [*left, *more], 1)
    backbone.close(left[:1])
    assert sorted(lane.slot for lane in (*left[1:], *more)) == [0, 1, 2]
    check_step(backbone, plain, [*more, *left[1:]], 2)
    before = backbone.cache_bytes
    backbone.trim()
    assert backbone.cache_bytes < before
    check_step(backbone, plain, [*left[1:], *more], 3)


def test_early_exits_are_those_of_before_the_failure(tiny_llama: str) -> None:
    model = load(tiny_llama)
    backbone = make_backbone(model, [], 270, exits=EXITS)
    lanes, logits = backbone.open([LaneRequest(None, prompt(length), 2) for length in (9, 30)])
    with layer_fails(model.model.layers[1]):
        check_unchanged(backbone, lanes, lambda: backbone.extend(lanes, [[1, 2], [3]]))
    check_early(backbone, tiny_llama, lanes, logits)


def test_recomputed_lanes_all_advance_or_none(tiny_mamba: str) -> None:
    model = load(tiny_mamba)
    backbone, plain = make_backbone(model, [], 270), Plain(tiny_mamba)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (9, 30)])
    with layer_fails(model.backbone.layers[0], after=1):
        check_unchanged(backbone, lanes, lambda: backbone.step(lanes, [1, 2]))
    opening = backbone.begin([LaneRequest(None, prompt(length)) for length in (5, 6)])
    with layer_fails(model.backbone.layers[0], after=1):
        check_unchanged(backbone, lanes, opening.advance)
    with pytest.raises(ValueError, match="aren't being opened"):
        opening.advance()
    check_step(backbone, plain, lanes, 0)


def test_a_pool_that_grew_in_part_is_trimmed_to_one_size(made: tuple[Backbone, Plain, Any]) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(20)), LaneRequest(None, prompt(10))])
    before = backbone.cache_bytes
    with allocations_fail("new_zeros", 3):
        check_unchanged(backbone, lanes, lambda: backbone.open([LaneRequest(None, prompt(300))]))
    assert backbone.cache_bytes > before
    backbone.trim()
    assert backbone.cache_bytes == before
    check_step(backbone, plain, lanes, 0)


def test_a_model_is_not_taken_for_unfit_when_memory_runs_out_in_its_trial(tiny_llama: str) -> None:
    model = load(tiny_llama)

    def full(*_arguments: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes.")

    model.model.layers[0].register_forward_hook(full)
    with pytest.raises(RuntimeError, match="can't allocate"):
        make_backbone(model, [], 270)


def test_memory_that_ran_out_is_told_from_other_failures() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 60)
    assert out_of_memory(real.value)
    assert out_of_memory(FULL)
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))
