"""Checkpoints of 16 bits on a processor without instructions for them: float16 weights, all else float32."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from arith import LLM, Engine, Formula, PlanError, RewardModel
from arith.operands.half_linear import HalfLinear, computes
from arith.operands.loading import load_config
from arith.operands.memory import estimate, estimate_guide
from arith.operands.precision import keeps_half
from arith.runtime.guides.load import load_sequence_reader
from arith.runtime.trial import weight_bytes

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.skipif(not computes(CPU), reason="this processor has no such kernels"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),  # torch's compiler imports such things
]
PROMPTS = ["ab", "cdefg h", "i"]


@pytest.fixture(autouse=True)
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arith.operands.precision._cpu_has_bfloat16", lambda: False)


def narrowed(folder: str, copy: Path, dtype: torch.dtype, kind: Any = AutoModelForCausalLM) -> str:
    """The model as a checkpoint of that dtype."""
    shutil.copytree(folder, copy)
    kind.from_pretrained(folder, dtype=dtype).save_pretrained(copy)
    return str(copy)


@pytest.fixture(params=[torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def narrow_llama(tiny_llama: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return narrowed(tiny_llama, tmp_path / "narrow", request.param)


def formula(model: str, adapter: str, dtype: str | None = None) -> Formula:
    base = LLM(model, template="raw", dtype=dtype)
    arm = LLM(model, template="raw", dtype=dtype, adapter=adapter)
    return Formula("base + 0.5*arm", base=base, arm=arm)


def test_texts_and_scores_are_those_of_float32(narrow_llama: str, lora_a: str) -> None:
    """The weights of the checkpoint fit; those of the adapter are rounded to 11 bits."""
    narrow, exact = (Engine(formula(narrow_llama, lora_a, dtype)) for dtype in (None, "float32"))
    assert any(isinstance(one, HalfLinear) for one in _model(narrow).modules())
    assert not any(isinstance(one, HalfLinear) for one in _model(exact).modules())
    assert narrow.plan.backbones[0].memory is not None
    assert narrow.plan.backbones[0].memory.dtype == _model(narrow).dtype == torch.float32
    texts = [
        [one.token_ids for one in engine.generate(PROMPTS, max_new_tokens=12, temperature=0)]
        for engine in (narrow, exact)
    ]
    assert texts[0] == texts[1]
    scores = [[one.total for one in engine.score(PROMPTS, ["xyz"] * 3)] for engine in (narrow, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)
    bare = [Engine(LLM(narrow_llama, template="raw", dtype=dtype)) for dtype in (None, "float32")]
    alone = [[one.total for one in engine.score(PROMPTS, ["xyz"] * 3)] for engine in bare]
    assert alone[0] == pytest.approx(alone[1], abs=1e-4)


def test_compiled_steps_have_the_same_weights(
    narrow_llama: str, lora_a: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, *, dynamic, mode: compile(function, dynamic=dynamic, backend="eager"),
    )
    texts = []
    for when in ("on", "off"):
        engine = Engine(formula(narrow_llama, lora_a), compile=when)
        assert any(isinstance(one, HalfLinear) for one in _model(engine).modules())
        texts.append([one.token_ids for one in engine.generate(PROMPTS, max_new_tokens=8, temperature=0)])
    assert texts[0] == texts[1]


def test_the_estimate_is_what_the_weights_take_and_what_loading_takes_beyond(
    tiny_llama: str, tiny_gpt2: str, tmp_path: Path
) -> None:
    for number, folder in enumerate((tiny_llama, tiny_gpt2)):
        model = narrowed(folder, tmp_path / str(number), torch.bfloat16)
        memory = estimate(LLM(model).weights, [], CPU)
        assert memory is not None and memory.half
        loaded = _model(Engine(LLM(model, template="raw")))
        # GPT-2's own layers are none of torch's linear ones, its output layer is, beside the embeddings.
        others = sum(one.nbytes for one in loaded.buffers())
        assert memory.weights_bytes == weight_bytes(loaded) - others
        whole = sum(one.nbytes for one in AutoModelForCausalLM.from_pretrained(folder).parameters())
        assert memory.loading_bytes == max(0, whole - memory.weights_bytes)
        exact = estimate(LLM(model, dtype="float32").weights, [], CPU)
        assert exact is not None and not exact.half and exact.loading_bytes == 0
        assert exact.kv_bytes_per_token == memory.kv_bytes_per_token, "keys and values stay float32"


def test_the_plan_says_so_and_counts_what_loading_takes(
    narrow_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(LLM(narrow_llama))
    assert "float32 with float16 linear layers, weights 87 KiB" in str(engine.plan)
    memory = engine.plan.backbones[0].memory
    assert memory is not None
    for free in (memory.weights_bytes + memory.loading_bytes, memory.weights_bytes):
        monkeypatch.setattr("arith.runtime.plan.free_memory", lambda _device, free=free: free)
        if free > memory.weights_bytes:
            engine.plan.refuse_if_impossible()
        else:
            with pytest.raises(
                PlanError, match="the weights take 140 KiB while they are loaded and cpu has 8"
            ):
                engine.plan.refuse_if_impossible()


def test_guides_have_such_weights_too(tiny_reward: str, tmp_path: Path) -> None:
    model = narrowed(tiny_reward, tmp_path / "narrow", torch.bfloat16, AutoModelForSequenceClassification)
    rewards = []
    for dtype in (None, "float32"):
        operand = RewardModel(model, dtype=dtype)
        reader = load_sequence_reader(operand, CPU)
        memory = estimate_guide(operand, CPU)
        assert memory is not None and memory.half == (dtype is None)
        assert any(isinstance(one, HalfLinear) for one in reader.model.modules()) == (dtype is None)
        rewards.append(reader.read_texts(PROMPTS, special=True))
    torch.testing.assert_close(rewards[0], rewards[1], rtol=1e-4, atol=1e-5)


def test_weights_are_halved_only_where_nothing_else_is_said(
    tiny_llama: str, narrow_llama: str, lora_a: str, lora_dora: str
) -> None:
    def kept(operand: LLM, *adapters: str, device: torch.device = CPU) -> bool:
        return keeps_half(operand.weights, adapters, load_config(operand.weights), device)

    assert kept(LLM(narrow_llama)) and kept(LLM(narrow_llama), lora_a)
    assert not kept(LLM(narrow_llama), lora_dora), "peft's own layers stay as they are"
    assert not kept(LLM(narrow_llama, dtype="float32")) and not kept(LLM(narrow_llama, dtype="bfloat16"))
    assert not kept(LLM(tiny_llama)), "a checkpoint in float32 keeps its weights"
    assert not kept(LLM(narrow_llama, device_map="auto"))


def test_a_processor_with_bfloat16_computes_in_it(
    tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arith.operands.precision._cpu_has_bfloat16", lambda: True)
    for dtype, halved in ((torch.bfloat16, False), (torch.float16, True)):
        weights = LLM(narrowed(tiny_llama, tmp_path / str(halved), dtype)).weights
        assert keeps_half(weights, (), load_config(weights), CPU) == halved


def _model(engine: Engine) -> Any:
    return next(iter(engine.runner.models.backbones.values())).model
