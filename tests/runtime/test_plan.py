"""The plan of an engine: what shares a backbone, what that takes, and what is refused before loading."""

from pathlib import Path

import pytest
import torch

from arith import LLM, Engine, Formula, FormulaError, OperandError, PlanError
from arith.runtime import plan as plan_module
from arith.runtime.plan import Plan

CPU = torch.device("cpu")


def of(**operands: LLM) -> Plan:
    return Plan.of(operands, CPU, download=True)


def lanes(plan: Plan) -> list[list[str]]:
    return [[name for name, _ in backbone.lanes] for backbone in plan.backbones]


def test_operands_of_equal_weights_share_a_backbone(
    tiny_llama: str, tiny_llama_other: str, lora_a: str, lora_b: str
) -> None:
    plan = of(
        base=LLM(tiny_llama),
        persona=LLM(tiny_llama, system="Be kind."),
        other=LLM(tiny_llama_other),
        arm1=LLM(tiny_llama, adapter=lora_a),
        arm2=LLM(tiny_llama, adapter=lora_b),
        wide=LLM(tiny_llama, dtype="float64"),
    )
    assert lanes(plan) == [["base", "persona", "arm1", "arm2"], ["other"], ["wide"]]
    assert plan.backbones[0].adapters == (lora_a, lora_b)
    assert not any(backbone.alone for backbone in plan.backbones)


def test_equal_operands_are_one_lane(tiny_llama: str) -> None:
    assert lanes(of(a=LLM(tiny_llama), b=LLM(tiny_llama))) == [["a"]]


def test_an_adapter_that_cannot_be_mixed_has_a_backbone_of_its_own(
    tiny_llama: str, lora_a: str, lora_dora: str, lora_modules_to_save: str
) -> None:
    plan = of(
        a=LLM(tiny_llama, adapter=lora_dora),
        b=LLM(tiny_llama),
        c=LLM(tiny_llama, adapter=lora_dora, system="Be kind."),
        d=LLM(tiny_llama, adapter=lora_modules_to_save),
        e=LLM(tiny_llama, adapter=lora_a),
    )
    assert lanes(plan) == [["a", "c"], ["b", "e"], ["d"]]
    assert [backbone.alone for backbone in plan.backbones] == [True, False, True]


def test_memory_is_that_of_the_weights_and_the_cache(tiny_llama: str, lora_a: str) -> None:
    from transformers import AutoModelForCausalLM

    counted = sum(one.numel() for one in AutoModelForCausalLM.from_pretrained(tiny_llama).parameters())
    base = LLM(tiny_llama, dtype="bfloat16")  # float32 layers are filled up to whole blocks
    bare, adapted = of(a=base), of(a=base, b=LLM(tiny_llama, adapter=lora_a, dtype="bfloat16"))
    memory = bare.backbones[0].memory
    assert memory is not None
    assert memory.weights_bytes == 2 * counted
    assert memory.kv_bytes_per_token == 2 * 2 * 2 * 8 * 2, "keys and values, 2 layers, 2 heads of 8, bfloat16"
    with_adapter = adapted.backbones[0].memory
    assert with_adapter is not None
    # Rank 4 on queries (32 -> 32) and values (32 -> 16) of two layers.
    assert with_adapter.weights_bytes == 2 * (counted + 2 * (4 * (32 + 32) + 4 * (32 + 16)))


def test_rows_follow_from_the_memory_that_is_free(
    tiny_llama: str, lora_a: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = of(a=LLM(tiny_llama), b=LLM(tiny_llama, adapter=lora_a))
    row = 2 * 256 * 100  # two lanes of 256 bytes a token, 100 tokens each
    for free, rows in ((4 * row, 3), (40 * row, 30), (400 * row, 32), (row // 10, 1), (0, 1)):
        monkeypatch.setattr(plan_module, "free_memory", lambda device, free=free: free)
        assert plan.rows_that_fit(100, wanted=32) == rows


def test_memory_that_is_held_for_lanes_already_is_theirs(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = of(a=LLM(tiny_llama))
    row = 256 * 100
    monkeypatch.setattr(plan_module, "free_memory", lambda device: 4 * row)
    assert plan.rows_that_fit(100, wanted=32, held=16 * row) == 15


def test_weights_beyond_the_free_memory_are_refused_with_the_figures(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "free_memory", lambda device: 2**10)
    with pytest.raises(PlanError, match=r"the weights take 70 KiB and cpu has 1,024 bytes free") as refused:
        Engine(LLM(tiny_llama, dtype="bfloat16"))
    assert "backbone 1" in str(refused.value) and "dtype" in str(refused.value)


def test_the_plan_prints_what_a_user_wants_to_know(
    tiny_llama: str, tiny_llama_other: str, lora_a: str
) -> None:
    base, arm = (LLM(tiny_llama, adapter=one, dtype="bfloat16") for one in (None, lora_a))
    said = str(of(base=base, arm=arm, other=LLM(tiny_llama_other)))
    first, one_forward, second, *_ = said.splitlines()
    assert first.startswith("backbone 1:") and tiny_llama in first and "cpu" in first and "bfloat16" in first
    assert "weights 72 KiB" in first and "KV cache 256 bytes" in first
    assert "2 lanes a row (base, arm+adapter)" in one_forward
    assert second.startswith("backbone 2:") and tiny_llama_other in second


def test_a_model_that_is_not_here_is_said_to_be_so() -> None:
    plan = Plan.of({"a": LLM("nobody/has-this-model", adapter="nobody/nor-this")}, CPU)
    assert plan.backbones[0].memory is None
    assert "not on this machine" in str(plan)
    assert plan.rows_that_fit(100, wanted=7) == 7


def test_what_cannot_be_loaded_is_refused_by_name(
    tiny_llama: str, tiny_llama_other: str, lora_a: str, lora_other_architecture: str, tmp_path: Path,
    tiny_other_tokenizer: str,
) -> None:  # fmt: skip
    with pytest.raises(OperandError, match="missing_folder"):
        Engine(LLM(str(tmp_path / "missing_folder")))
    for adapter, model in ((lora_other_architecture, tiny_llama), (lora_a, tiny_llama_other)):
        with pytest.raises(OperandError, match=Path(adapter).name):
            Engine(LLM(model, adapter=adapter))
    with pytest.raises(OperandError, match="`b`"):
        Engine(Formula("a + b", a=LLM(tiny_llama), b=LLM(tiny_other_tokenizer)))
    with pytest.raises(FormulaError, match="unknown name `b`"):
        Engine(Formula("a + b", a=LLM(tiny_llama)))
    with pytest.raises(FormulaError, match="`b` is bound to"):
        Engine(Formula("a + b", a=LLM(tiny_llama), b=("not", "an", "operand")))


def test_rows_are_counted_by_the_window_where_more_tokens_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: str
) -> None:
    engine = Engine(LLM(tiny_llama, template="raw"))
    each = engine.plan.row_bytes(512)
    monkeypatch.setattr("arith.runtime.plan.free_memory", lambda _device: 8 * each)
    monkeypatch.setattr("arith.runtime.runner.free_memory", lambda _device: 8 * each)
    for tokens in (508, 100_000):
        engine.generate(["x"] * 20, max_new_tokens=tokens, temperature=0, stop_strings=list("aeh "))
        assert engine.stats.rows_at_once == 6  # a quarter of the memory is kept back
