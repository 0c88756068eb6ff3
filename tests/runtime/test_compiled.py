"""Compiled steps: what the model gives without them, in static shapes and in others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Engine, Formula
from arith.errors import OperandError, OptionError
from arith.operands.loading import load_model
from arith.runtime.backbones import compiled as steps
from arith.runtime.backbones.backbone import Backbone, LaneRequest, make_backbone
from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.compiled import CompiledSteps

# torch's own compiler imports what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
CPU = torch.device("cpu")
PROMPTS = [(5, 6, 7, 8, 9), (10, 11), (12, 13, 14, 15, 16, 17, 18)]


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` that traces as ever, and runs what it has traced as it stands."""
    compile = torch.compile

    def traced(function: Callable[..., Any], *, dynamic: bool, mode: str | None) -> Any:
        return compile(function, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)


def backbone_of(
    monkeypatch: pytest.MonkeyPatch, path: str, *, static: bool, adapters: tuple[str, ...] = ()
) -> Backbone:
    def of(model: Any, compile: Any, **_: Any) -> CompiledSteps:
        return CompiledSteps(model, compile, static=static)

    monkeypatch.setattr("arith.runtime.backbones.backbone.CompiledSteps", of)
    model = load_model(LLM(path, dtype="float32").weights, CPU)
    return make_backbone(model, adapters, 270, compile="on")


def played(backbone: Backbone, adapters: list[str | None]) -> list[Tensor]:
    """Steps of three lanes, then of the two that are left, and of one that came later."""
    with torch.inference_mode():
        requests = [LaneRequest(one, tuple(p)) for one, p in zip(adapters, PROMPTS, strict=True)]
        lanes, logits = backbone.open(requests)
        found = list(logits)
        for step in range(3):
            found.append(backbone.step(lanes, [20 + step, 30 + step, 40 + step]))
        backbone.close([lanes[1]])
        left = [lanes[0], lanes[2]]
        found.append(backbone.step(left, [50, 51]))
        found.append(backbone.step([lanes[2]], [52]))
        late, logits = backbone.open([LaneRequest(adapters[1], (9, 9, 9))])
        found += [*logits, backbone.step([*left, *late], [53, 54, 55])]
    return found


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_mistral_sliding", "tiny_gpt2"])
def test_compiled_steps_give_the_logits_of_plain_ones(
    static: bool, fixture: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(fixture)
    plain = make_backbone(load_model(LLM(path, dtype="float32").weights, CPU), [], 270)
    compiled = backbone_of(monkeypatch, path, static=static)
    for found, expected in zip(played(compiled, [None] * 3), played(plain, [None] * 3), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("static", [True, False])
def test_lanes_with_different_adapters_share_a_program(
    static: bool, tiny_llama: str, lora_a: str, lora_b: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = (lora_a, lora_b)
    model = load_model(LLM(tiny_llama, dtype="float32").weights, CPU)
    plain = make_backbone(model, adapters, 270)
    compiled = backbone_of(monkeypatch, tiny_llama, static=static, adapters=adapters)
    for lanes in ([None, lora_a, lora_b], [lora_b, None, lora_a]):
        for found, expected in zip(played(compiled, lanes), played(plain, lanes), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("without_compiler")
def test_lanes_without_adapters_have_a_program_that_is_compared_too(
    tiny_llama: str, lora_a: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    plain = CompiledSteps._plain

    def counted(self: CompiledSteps, inputs: dict[str, Any]) -> Tensor:
        compared.append(len(inputs["input_ids"]))
        return plain(self, inputs)

    monkeypatch.setattr(CompiledSteps, "_plain", counted)
    backbone = backbone_of(monkeypatch, tiny_llama, static=True, adapters=(lora_a,))
    counts = []
    for adapter in (lora_a, None, lora_a):
        lanes, _ = backbone.open([LaneRequest(adapter, tuple(PROMPTS[0]))] * 2)
        for step in range(steps.GRAPH_CALLS + 2):
            backbone.step(lanes, [20 + step, 30 + step])
        backbone.close(lanes)
        counts.append(len(compared))
    assert counts == [steps.GRAPH_CALLS, 2 * steps.GRAPH_CALLS, 2 * steps.GRAPH_CALLS]


def test_a_second_call_takes_the_programs_of_the_first(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made for a cache of that size, in that place."""
    made: list[object] = []
    compile = torch.compile

    def counted(function: Callable[..., Any], *, dynamic: bool, mode: str | None) -> Any:
        def backend(graph: Any, _inputs: Any) -> Any:
            made.append(graph)
            return graph.forward

        return compile(function, dynamic=dynamic, backend=backend)

    monkeypatch.setattr(torch, "compile", counted)
    backbone = backbone_of(monkeypatch, tiny_llama, static=True)
    plain = make_backbone(load_model(LLM(tiny_llama, dtype="float32").weights, CPU), [], 270)
    expected = played(plain, [None] * 3)
    counts = []
    for _ in range(3):
        backbone.reserve(3, 12)
        for found, one in zip(played(backbone, [None] * 3), expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-4)
        backbone.forget()
        counts.append(len(made))
    assert 0 < counts[0] == counts[1] == counts[2]
    held = backbone.cache_bytes
    backbone.reserve(3, 400)
    assert backbone.cache_bytes == 0, "another call needs another cache, and not the slots of this one too"
    backbone.open([LaneRequest(None, PROMPTS[0])])
    assert 0 < backbone.cache_bytes <= 2 * held
    backbone.reset()
    assert backbone.cache_bytes == 0


def test_an_engine_with_compiled_steps_writes_the_same(tiny_llama: str) -> None:
    """With the real compiler."""
    formula = Formula("a + 0.5*b", a=LLM(tiny_llama), b=LLM(tiny_llama, system="Short."))
    expected = Engine(formula, compile="off").generate(["one", "two and"], max_new_tokens=6, seed=3)
    found = Engine(formula, compile="on").generate(["one", "two and"], max_new_tokens=6, seed=3)
    for one, other in zip(found, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs["formula"] == pytest.approx(other.logprobs["formula"], abs=1e-4)


def one_token() -> dict[str, Any]:
    cache = SlotCache()
    cache.reserve(1, 1)
    cache.place(torch.tensor([0]), torch.tensor([[0]]), slice(0, 1), 1)
    mask = torch.zeros(1, 1, 1, 1)
    return {"input_ids": torch.tensor([[3]]), "attention_mask": mask, "past_key_values": cache}


def test_compiled_steps_in_bfloat16_stay_close_to_those_of_the_model(tiny_llama: str) -> None:
    """With the real compiler: KL(model's || program's) in nats."""
    found = []
    for compile in ("off", "on"):
        model = load_model(LLM(tiny_llama, dtype="bfloat16").weights, CPU)
        found.append(played(make_backbone(model, [], 270, compile=compile), [None] * 3))
    for plain, compiled in zip(*found, strict=True):
        one, other = (logits.float().log_softmax(-1) for logits in (plain, compiled))
        divergence = (one.exp() * (one - other)).sum(-1)
        assert float(divergence.mean()) < 0.01 and float(divergence.max()) < 0.05


def test_what_cannot_be_compiled_is_told(tiny_llama: str, tiny_mamba: str) -> None:
    early = Engine(Formula("a - 0.1*layer(a, 1)", a=LLM(tiny_llama)), compile="on")
    assert early.notes[-1] == f"{tiny_llama} runs without compiled steps: its early layers are asked"
    recurrent = Engine(LLM(tiny_mamba), compile="on")
    assert recurrent.notes[-1].endswith("without compiled steps: it keeps a recurrent state")
    assert Engine(LLM(tiny_llama), compile="auto").notes == ()
    with pytest.raises(OptionError, match="compile is 'maybe': it has to be one of auto, on, off"):
        Engine(LLM(tiny_llama), compile="maybe")  # type: ignore[arg-type]


def broken(_function: Any, *, dynamic: bool, mode: str | None) -> Any:
    def program(*_arguments: Any, **_inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand more")

    return program


def test_where_compiling_fails_auto_goes_on_and_on_says_why(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(steps, "PATIENCE", 2)
    model = load_model(LLM(tiny_llama).weights, CPU)
    inputs = one_token()
    auto = CompiledSteps(model, "auto", static=True)
    with torch.inference_mode():
        assert [auto.takes(1, 1, None) for _ in range(3)] == [False, False, True]
        assert not auto.takes(2, 1, None), "another shape"
        with pytest.warns(UserWarning, match="can't be compiled"):
            assert auto(inputs).shape == (1, 1, model.config.vocab_size)
        assert auto.failure == "RuntimeError: no compiler here"
        assert not auto.takes(1, 1, None)
        with pytest.raises(OperandError, match="can't be compiled: RuntimeError: no compiler here"):
            CompiledSteps(model, "on", static=True)(inputs)


def test_a_compiler_that_fails_is_no_reason_to_run_without_a_cache(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    engine = Engine(LLM(tiny_llama), compile="on")
    assert engine.notes == ()
    with pytest.raises(OperandError, match="can't be compiled: RuntimeError: no compiler here"):
        engine.generate("one", max_new_tokens=3)


def test_steps_whose_padding_has_no_room_are_the_models_own(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch, without_compiler: None
) -> None:
    """Three lanes of a few tokens are padded to four of 256."""
    reserve = SlotCache.reserve

    def tight(self: SlotCache, slots: int, capacity: int) -> None:
        if slots > 3:
            raise torch.OutOfMemoryError("the test's memory is full")
        reserve(self, slots, capacity)

    monkeypatch.setattr(steps, "PATIENCE", 0)
    expected = played(make_backbone(load_model(LLM(tiny_llama).weights, CPU), [], 270), [None] * 3)
    needed, wanted = (backbone_of(monkeypatch, tiny_llama, static=True) for _ in range(2))
    wanted._forward.compiled.required = False  # type: ignore[attr-defined]
    monkeypatch.setattr(SlotCache, "reserve", tight)
    with pytest.raises(torch.OutOfMemoryError):
        played(needed, [None] * 3)
    with pytest.warns(UserWarning, match="no memory for the keys and values of its padding"):
        found = played(wanted, [None] * 3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_program_that_gives_something_else_is_not_trusted(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(function: Callable[..., Any], *, dynamic: bool, mode: str | None) -> Any:
        def program(**inputs: Any) -> Any:
            output = function(**inputs)
            output.logits = output.logits.flip(-1)
            return output

        return program

    monkeypatch.setattr(torch, "compile", wrong)
    model = load_model(LLM(tiny_llama).weights, CPU)
    inputs = one_token()
    with torch.inference_mode(), pytest.raises(OperandError, match="differs from a plain one"):
        CompiledSteps(model, "on", static=False)(inputs)


def test_a_graph_is_trusted_when_its_replay_was_right(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warmed up and recorded it gives what the model gives; replayed, something else."""
    calls = iter(range(1, 100))

    def stale(function: Callable[..., Any], *, dynamic: bool, mode: str | None) -> Any:
        def program(**inputs: Any) -> Any:
            output = function(**inputs)
            if next(calls) >= 3:
                output.logits = output.logits.flip(-1)
            return output

        return program

    monkeypatch.setattr(torch, "compile", stale)
    monkeypatch.setattr(steps, "PATIENCE", 0)
    program = CompiledSteps(load_model(LLM(tiny_llama).weights, CPU), "auto", static=True)
    inputs = one_token()
    with torch.inference_mode():
        first = program(inputs)
        torch.testing.assert_close(program(inputs), first)
        with pytest.warns(UserWarning, match="a compiled step differs from a plain one"):
            torch.testing.assert_close(program(inputs), first)
    assert not program.takes(1, 1, None)


def test_shapes_of_cuda_graphs_are_few() -> None:
    shapes = CompiledSteps.__new__(CompiledSteps)
    shapes._static = True
    assert [shapes.lanes(count) for count in (1, 2, 3, 5, 8, 9)] == [1, 2, 4, 8, 8, 16]
    assert [shapes.length(length, None) for length in (1, 256, 257)] == [256, 256, 512]
    assert shapes.length(257, 300) == 300
