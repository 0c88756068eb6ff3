"""Checkpoints of 16 bits on a processor without instructions for them: float16 weights, all else float32."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from arith import LLM, Engine, Formula, PlanError, RewardModel
from arith.operands.half_linear import HalfLinear, computes
from arith.operands.loading import load_config
from arith.operands.memory import MemoryEstimate, estimate, estimate_guide
from arith.operands.packing import packed
from arith.operands.precision import keeps_half
from arith.runtime.backbones.joined import Joint
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.guides.load import load_sequence_reader
from arith.runtime.plan import BackbonePlan, Plan, size_in_words
from arith.runtime.trial import weight_bytes
from tests.conftest import save_lora

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.skipif(not computes(CPU), reason="this processor has no such kernels"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),  # torch's compiler imports such things
]
FLOAT32 = type(packed(nn.Linear(1, 999), half=False))
PROMPTS = ["ab", "cdefg h", "i"]


@pytest.fixture(autouse=True)
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arith.operands.precision._cpu_has_bfloat16", lambda: False)


def narrowed(
    folder: str, copy: Path, dtype: torch.dtype, kind: Any = AutoModelForCausalLM, **settings: Any
) -> str:
    """The model as a checkpoint of that dtype."""
    shutil.copytree(folder, copy)
    kind.from_pretrained(folder, dtype=dtype, **settings).save_pretrained(copy)
    return str(copy)


@pytest.fixture(scope="module")
def wide_llama(new_llama: Callable[..., str]) -> str:
    """One whose layers have inputs enough."""
    sizes = {"hidden_size": 288, "intermediate_size": 320, "head_dim": 8}
    return new_llama("wide_llama", seed=5, initializer_range=0.05, **sizes)


@pytest.fixture(scope="module")
def lora(models_folder: Path, wide_llama: str) -> str:
    targets = ["q_proj", "v_proj", "down_proj"]
    return save_lora(models_folder / "wide_lora", wide_llama, seed=3, r=4, target_modules=targets)


@pytest.fixture(params=[torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def narrow_llama(wide_llama: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return narrowed(wide_llama, tmp_path / "narrow", request.param)


def formula(model: str, adapter: str, dtype: str | None = None) -> Formula:
    base = LLM(model, template="raw", dtype=dtype)
    arm = LLM(model, template="raw", dtype=dtype, adapter=adapter)
    return Formula("base + 0.5*arm", base=base, arm=arm)


def test_texts_and_scores_are_those_of_float32(narrow_llama: str, lora: str) -> None:
    """The weights of the checkpoint fit; those of the adapter are rounded to 11 bits."""
    narrow, exact = (Engine(formula(narrow_llama, lora, dtype)) for dtype in (None, "float32"))
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
    narrow_llama: str, lora: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, *, dynamic, mode: compile(function, dynamic=dynamic, backend="eager"),
    )
    texts = []
    for when in ("on", "off"):
        engine = Engine(formula(narrow_llama, lora), compile=when)
        assert any(isinstance(one, HalfLinear) for one in _model(engine).modules())
        texts.append([one.token_ids for one in engine.generate(PROMPTS, max_new_tokens=8, temperature=0)])
    assert texts[0] == texts[1]


def test_the_estimate_is_what_the_weights_take_and_what_loading_takes_beyond(
    wide_llama: str, tiny_gpt2: str, tmp_path: Path
) -> None:
    """Of GPT-2's layers none is one of torch's linear layers but the output layer, which has few inputs."""
    for number, folder in enumerate((wide_llama, tiny_gpt2)):
        model = narrowed(folder, tmp_path / str(number), torch.bfloat16)
        memory = estimate(LLM(model).weights, [], CPU)
        assert memory is not None and memory.half
        loaded = _model(Engine(LLM(model, template="raw")))
        others = sum(one.nbytes for name, one in loaded.named_buffers() if not name.endswith(".blocks"))
        assert memory.weights_bytes == weight_bytes(loaded) - others
        whole = sum(one.nbytes for one in AutoModelForCausalLM.from_pretrained(folder).parameters())
        assert memory.loading_bytes == max(0, whole - memory.weights_bytes)
        exact = estimate(LLM(model, dtype="float32").weights, [], CPU)
        assert exact is not None and not exact.half and exact.loading_bytes == 0
        assert exact.kv_bytes_per_token == memory.kv_bytes_per_token, "keys and values stay float32"


def test_the_plan_says_so(narrow_llama: str) -> None:
    plan = Engine(LLM(narrow_llama)).plan
    memory = plan.backbones[0].memory
    assert memory is not None
    said = f"float32 with float16 linear layers, weights {size_in_words(memory.weights_bytes)}"
    assert said in str(plan)


@pytest.mark.parametrize(
    ("order", "most"),
    [
        (((300, 200), (100, 0), (50, 10)), 500),
        (((50, 10), (100, 0), (300, 200)), 650),
        (((5, 0), (6, 0)), 11),
    ],
)
def test_what_loading_takes_counts_while_a_model_is_loaded_behind_those_that_are(
    narrow_llama: str, monkeypatch: pytest.MonkeyPatch, order: tuple[tuple[int, int], ...], most: int
) -> None:
    weights = LLM(narrow_llama).weights
    memories = [MemoryEstimate(kept, 1, torch.float32, True, beyond) for kept, beyond in order]
    plan = Plan(CPU, tuple(BackbonePlan(weights, (), False, memory) for memory in memories))
    monkeypatch.setattr("arith.runtime.plan.free_memory", lambda _device: most)
    plan.refuse_if_impossible()
    monkeypatch.setattr("arith.runtime.plan.free_memory", lambda _device: most - 1)
    when = " while they are loaded" if any(beyond for _, beyond in order) else ""
    with pytest.raises(PlanError, match=f"the weights take {most} bytes{when} and cpu has {most - 1} bytes"):
        plan.refuse_if_impossible()


def test_guides_have_such_weights_too(wide_llama: str, tmp_path: Path) -> None:
    kind = AutoModelForSequenceClassification
    model = narrowed(wide_llama, tmp_path / "narrow", torch.bfloat16, kind, num_labels=1)
    rewards = []
    for dtype in (None, "float32"):
        operand = RewardModel(model, dtype=dtype)
        reader = load_sequence_reader(operand, CPU)
        memory = estimate_guide(operand, CPU)
        assert memory is not None and memory.half == (dtype is None)
        assert any(isinstance(one, HalfLinear) for one in reader.model.modules()) == (dtype is None)
        rewards.append(reader.read_texts(PROMPTS, special=True))
    torch.testing.assert_close(rewards[0], rewards[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e6])
def test_an_adapter_counts_whatever_the_size_of_its_matrices(
    narrow_llama: str, lora: str, tmp_path: Path, factor: float
) -> None:
    """A times a number and B by it is the same adapter."""
    shutil.copytree(lora, tmp_path / "scaled")
    file = tmp_path / "scaled" / "adapter_model.safetensors"
    sizes = {"lora_A": factor, "lora_B": 1 / factor}
    tensors = {name: one * sizes[name.split(".")[-2]] for name, one in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    scores = []
    for adapter, dtype in ((str(tmp_path / "scaled"), None), (lora, "float32")):
        engine = Engine(LLM(narrow_llama, template="raw", adapter=adapter, dtype=dtype))
        assert any(isinstance(one, HalfLinear) for one in _model(engine).modules()) == (dtype is None)
        assert dtype is not None or not any(isinstance(one, FLOAT32) for one in _joined(engine))
        scores.append([one.total for one in engine.score(PROMPTS, ["xyz"] * 3)])
    assert scores[0] == pytest.approx(scores[1], abs=5e-3)


def test_layers_are_joined_in_float32_where_one_of_them_has_no_room_in_float16() -> None:
    layers = [nn.Linear(300, 32) for _ in range(2)]
    assert type(Joint(layers, LaneAdapters(), half=True).product) is HalfLinear
    layers[1].weight.data.mul_(1e-6)
    assert type(Joint(layers, LaneAdapters(), half=True).product) is FLOAT32


def test_weights_are_halved_only_where_nothing_else_is_said(
    tiny_llama: str, narrow_llama: str, lora: str, lora_dora: str
) -> None:
    def kept(operand: LLM, *adapters: str, device: torch.device = CPU) -> bool:
        return keeps_half(operand.weights, adapters, load_config(operand.weights), device)

    assert kept(LLM(narrow_llama)) and kept(LLM(narrow_llama), lora)
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


def _joined(engine: Engine) -> list[Any]:
    return [one.product for one in _model(engine).modules() if isinstance(one, Joint)]
