"""Rows come and go: long prompts in slices, long runs, and runs in which memory gives out."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import torch

import arith.runtime.generation as generation
from arith import LLM, Engine, Formula, PlanError
from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.slot_forward import SlotForward
from arith.runtime.backbones.slots import SlotBackbone
from arith.runtime.result import Result
from tests.runtime.reference import raw

PROMPTS = ["the rain", "a", "Once upon a time there was another", "x" * 60, "in spain", " falls"]
OPTIONS: dict[str, Any] = {"max_new_tokens": 10, "seed": 6}


@pytest.fixture(scope="module")
def engine(tiny_llama: str, tiny_llama_other: str, lora_a: str) -> Engine:
    return Engine(
        Formula(
            "base + 0.5*arm - 0.2*other + tokens(257)",
            base=raw(tiny_llama),
            arm=raw(tiny_llama, lora_a),
            other=raw(tiny_llama_other),
        )
    )


@pytest.fixture(scope="module")
def expected(engine: Engine) -> list[list[int]]:
    return [engine.generate([prompt], **OPTIONS)[0].token_ids for prompt in PROMPTS]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, set[int]], None]]:
    """`failing("forward", {3, 7})`: memory gives out in the third and seventh of these calls."""

    def arrange(method: str, failures: set[int]) -> None:
        owner, name = {"forward": (SlotForward, "__call__"), "copy": (SlotCache, "copy")}.get(
            method, (SlotBackbone, method)
        )
        whole, calls = getattr(owner, name), iter(range(1, 10**6))

        def short(self: Any, *arguments: Any, **keywords: Any) -> Any:
            if next(calls) in failures:
                raise RuntimeError(
                    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB"
                )
            return whole(self, *arguments, **keywords)

        monkeypatch.setattr(owner, name, short)

    yield arrange
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("method", "failures"),
    [
        ("forward", {1}),
        ("forward", {2, 3}),
        ("forward", {5}),
        ("forward", {9, 16}),
        ("begin", {1}),
        ("begin", {2}),
        ("step", {1}),
        ("step", {2}),
        ("step", {7, 12}),
    ],
)
@pytest.mark.parametrize("speculate", [False, {"draft": "base", "tokens": 2}])
def test_fewer_rows_go_on_when_memory_gives_out_and_lose_nothing(
    engine: Engine, expected: list[list[int]], failing: Any, method: str, failures: set[int], speculate: Any
) -> None:
    engine.stats.reset()
    failing(method, failures)
    found = engine.generate(PROMPTS, **OPTIONS, speculate=speculate)
    assert [one.token_ids for one in found] == expected
    assert engine.stats.lowered_to is not None and 1 <= engine.stats.lowered_to < len(PROMPTS)


@pytest.mark.parametrize("failures", [{1}, {2}, {1, 2, 3}])
@pytest.mark.parametrize("max_rows", [2, 6])
def test_rows_end_and_others_go_on_where_lanes_cannot_move_for_want_of_memory(
    engine: Engine, expected: list[list[int]], failing: Any, failures: set[int], max_rows: int
) -> None:
    failing("copy", failures)
    failing("step", {2})  # which trims the cache
    engine.runner.max_rows = max_rows
    try:
        assert [one.token_ids for one in engine.generate(PROMPTS[:5], **OPTIONS)] == expected[:5]
    finally:
        engine.runner.max_rows = None


def test_a_row_that_ended_when_memory_gave_out_gets_no_more_tokens(
    engine: Engine, expected: list[list[int]]
) -> None:
    """A caller's criterion takes memory, for the last row of a step when others have ended in it."""
    calls: list[int] = []

    def criterion(input_ids: Any, scores: Any) -> bool:
        calls.append(1)
        if len(calls) == 4 * len(PROMPTS):
            raise MemoryError
        return False

    found = engine.generate(PROMPTS, max_new_tokens=4, seed=6, stopping_criteria=[criterion])
    assert [one.token_ids for one in found] == [tokens[:4] for tokens in expected]
    assert len(calls) > 4 * len(PROMPTS)


def test_a_single_row_gets_the_memory_of_those_that_have_ended(
    engine: Engine, expected: list[list[int]], failing: Any
) -> None:
    """One that has just ended, or others of a call that reserved more."""
    failing("step", {9})
    engine.stats.reset()
    engine.runner.max_rows = 1
    try:
        assert [one.token_ids for one in engine.generate(PROMPTS[:2], **OPTIONS)] == expected[:2]
    finally:
        engine.runner.max_rows = None
    assert engine.stats.lowered_to == 1


def test_fewer_texts_are_scored_together_when_memory_gives_out(engine: Engine, failing: Any) -> None:
    texts = [" falls", "b c", " in the rain", "y" * 9, "!", " down"]
    expected = engine.score(PROMPTS, texts)
    behind = engine.logprobs(PROMPTS, texts)
    failing("forward", {1, 6})
    found = engine.score(PROMPTS, texts)
    for one, other in zip(found, expected, strict=True):
        assert one.totals == pytest.approx(other.totals, abs=1e-4)
    torch.testing.assert_close(engine.logprobs(PROMPTS, texts), behind, atol=1e-4, rtol=0)
    failing("forward", set(range(1, 200)))
    with pytest.raises(PlanError, match="not enough memory for row 1"):
        engine.score(PROMPTS, texts)


def test_a_single_text_is_scored_with_all_memory(engine: Engine, failing: Any) -> None:
    expected = engine.score(PROMPTS[:2], ["a b", "c"])
    failing("forward", {1, 4})
    engine.runner.max_rows = 1
    try:
        found = engine.score(PROMPTS[:2], ["a b", "c"])
    finally:
        engine.runner.max_rows = None
    for one, other in zip(found, expected, strict=True):
        assert one.totals == pytest.approx(other.totals, abs=1e-4)


def test_memory_that_is_too_little_for_one_row_is_an_error(engine: Engine, failing: Any) -> None:
    failing("forward", set(range(1, 100)))
    with pytest.raises(PlanError, match=r"for row 1, sample 1: it has .* tokens, and cpu has .* free"):
        engine.generate(PROMPTS, **OPTIONS)


def test_any_other_failure_is_no_lack_of_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SlotBackbone, "step", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        engine.generate(PROMPTS, **OPTIONS)
    monkeypatch.undo()
    assert len(engine.generate(PROMPTS, **OPTIONS)) == len(PROMPTS)


def test_rows_in_flight_get_their_tokens_while_a_long_prompt_is_read(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third prompt enters when the first row ends; the second gets a token for each slice of 16."""
    engine = Engine(raw(tiny_llama), max_rows=2)
    prompts = ["a", "b", "c" * 160]
    options: dict[str, Any] = {"seed": 1, "params": None}

    def stops(input_ids: Any, scores: Any) -> bool:
        return bool(input_ids[0, 1] == ord("a") and input_ids.shape[1] >= 4)

    alone = [
        engine.generate([p], max_new_tokens=30, stopping_criteria=[stops], **options)[0] for p in prompts
    ]
    monkeypatch.setattr(generation, "SLICE", 16)
    order = [
        piece.index
        for piece in engine.stream(prompts, max_new_tokens=30, stopping_criteria=[stops], **options)
    ]
    first_of_third = order.index(2)
    last_of_first = max(at for at, index in enumerate(order) if index == 0)
    assert order[last_of_first + 1 : first_of_third].count(1) >= 160 // 16 - 1
    found = engine.generate(prompts, max_new_tokens=30, stopping_criteria=[stops], **options)
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(150, "float64"), (150, "float32"), pytest.param(2000, "float64", marks=pytest.mark.slow)],
)
def test_rows_of_random_lengths_are_each_what_they_are_alone(
    tiny_llama: str, lora_a: str, count: int, dtype: str
) -> None:
    """Through 16 slots, with ends as they come; memory is no more after many rows than after some.

    In float64: of so many choices one is so near to a tie that the order of float32 sums would decide it. In
    float32, where layers are packed and joined, such a row may differ.
    """
    base = LLM(tiny_llama, template="raw", dtype=dtype)
    arm = LLM(tiny_llama, adapter=lora_a, template="raw", dtype=dtype)
    formula = Formula("base + 0.5*arm + 3*tokens(257)", base=base, arm=arm)
    engine = Engine(formula, max_rows=16)
    chance = random.Random(count)
    distinct: set[str] = set()
    while len(distinct) < count:
        distinct.add("".join(chance.choices("abcdefgh ", k=chance.randint(1, 60))))
    prompts = sorted(distinct)
    chance.shuffle(prompts)
    backbone = next(iter(engine.runner.models.backbones.values()))
    process = psutil.Process()
    cache, resident = [], []
    found: dict[int, Result] = {}
    for result in engine.as_completed(prompts, max_new_tokens=40, seed=8):
        found[result.index] = result
        cache.append(backbone.cache_bytes)
        resident.append(process.memory_info().rss)
    assert len(found) == count and len({len(one.token_ids) for one in found.values()}) > 10
    half = count // 2
    assert max(cache[half:]) <= max(cache[:half]) and backbone.cache_bytes == 0
    assert max(resident[half:]) <= max(resident[:half]) + 2**25
    differing = 0
    for index in chance.sample(range(count), 60 if count < 1000 else count):
        alone, among = engine.generate([prompts[index]], max_new_tokens=40, seed=8)[0], found[index]
        if alone.token_ids != among.token_ids:
            differing += 1
            continue
        assert alone.finish_reason == among.finish_reason
        for name, values in alone.logprobs.items():
            assert among.logprobs[name] == pytest.approx(values, abs=1e-3)
    assert differing <= (0 if dtype == "float64" else 1)


def test_the_cache_is_no_larger_than_what_is_to_come(tiny_llama: str) -> None:
    """Neither a first size nor growth in steps takes more than the plan counts with."""
    engine = Engine(raw(tiny_llama), max_rows=3)
    backbone = next(iter(engine.runner.models.backbones.values()))
    each = engine.plan.row_bytes(1)
    for length, new in ((3, 5), (40, 300), (250, 20)):
        most = 0
        prompts = ["a" * length, "b" * (length - 1), "c", "d" * length]
        for _ in engine.stream(prompts, max_new_tokens=new, seed=1):
            most = max(most, backbone.cache_bytes)
        assert 0 < most <= 3 * each * (len(engine.tokenizer("a" * length).input_ids) + new)


def test_a_prompt_that_has_no_room_is_refused_with_figures(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is run."""
    monkeypatch.setattr("arith.runtime.runner.free_memory", lambda _device: 5000)
    said = (
        r"not enough memory for row 2, sample 1: the keys and values of its prompt take .* KiB, and cpu has"
    )
    with pytest.raises(PlanError, match=said):
        engine.generate(["a", "x" * 60], **OPTIONS)
    monkeypatch.undo()
    assert len(engine.generate(["a", "x" * 60], **OPTIONS)) == 2
