"""Whole runs over tiny models: what they write, and that it is what formulas then use."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arith import LLM, Engine, Formula, RewardModel
from arith.operands.manifest import contradictions, read_manifest
from tests.trainers.conftest import PAIRS
from trainers import Recipe, train
from trainers.output.metrics import read_metrics

Write = Callable[..., Path]


def run(recipe: Path) -> Any:
    return train(Recipe.load(recipe))


def scores(operand: LLM, pairs: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """The log-probabilities of both answers of each pair, their end included, by the engine."""
    engine = Engine(operand, device="cpu")
    prompts = [pair["prompt"] for pair in pairs]
    found = []
    for side in ("chosen", "rejected"):
        answers = [pair[side] for pair in pairs]
        found.append([one.totals["formula"] for one in engine.score(prompts, answers, end=True)])
    return found[0], found[1]


def test_the_validation_before_the_first_step_is_that_of_the_untrained_model(
    write_recipe: Write, tmp_path: Path, tiny_llama: str
) -> None:
    """Engine, prompts and sums by another route than the trainer's."""
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:7]))
    recipe = write_recipe(data={"validation": "held.jsonl"})
    first = run(recipe).reports[0]
    chosen, rejected = scores(LLM(tiny_llama, dtype="float32"), PAIRS[:7])
    margins = [0.5 * (good - bad) for good, bad in zip(chosen, rejected, strict=True)]
    losses = [math.log1p(math.exp(-margin)) for margin in margins]
    assert first["step"] == 0
    assert first["eval_chosen_log_prob"] == pytest.approx(sum(chosen) / 7, abs=1e-3)
    assert first["eval_margin"] == pytest.approx(sum(margins) / 7, abs=1e-3)
    assert first["eval_loss"] == pytest.approx(sum(losses) / 7, abs=1e-3)
    assert first["eval_accuracy"] == pytest.approx(sum(margin > 0 for margin in margins) / 7)


def test_an_adapter_is_an_operand_by_its_folder(write_recipe: Write, tmp_path: Path, tiny_llama: str) -> None:
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:7]))
    template = "Q: {prompt} A:"
    trained = run(write_recipe(data={"validation": "held.jsonl"}, operand={"template": template}))
    out = tmp_path / "out"
    assert trained.folder == out
    arm = LLM(adapter=str(out), dtype="float32")
    assert arm == LLM(model=str(out), dtype="float32")
    assert (arm.model, arm.template) == (tiny_llama, template)
    chosen, rejected = scores(arm, PAIRS[:7])
    last = trained.reports[-1]
    assert last["step"] == 4
    assert last["eval_chosen_log_prob"] == pytest.approx(sum(chosen) / 7, abs=1e-3)
    assert last["eval_rejected_log_prob"] == pytest.approx(sum(rejected) / 7, abs=1e-3)
    assert last["eval_loss"] < trained.reports[0]["eval_loss"]
    assert f"adapter: {out}" in trained.operand


def test_a_formula_that_contradicts_the_training_is_told(
    write_recipe: Write, tmp_path: Path, tiny_llama_other: str
) -> None:
    run(write_recipe(operand={"system": "Be kind."}))
    out = str(tmp_path / "out")
    assert contradictions("arm", LLM(adapter=out)) == []
    rude = LLM(tiny_llama_other, adapter=out, system="Be rude.", template="{system} {prompt}")
    told = contradictions("arm", rude)
    assert len(told) == 3
    assert all(word in told[0] for word in ("was trained on top of", tiny_llama_other))
    assert "'Be kind.', and runs with 'Be rude.'" in told[1]
    engine = Engine(LLM(adapter=out, system="Be rude."), device="cpu")
    assert any("Be rude." in note for note in engine.notes)


def test_what_a_run_leaves_behind(write_recipe: Write, tmp_path: Path) -> None:
    run(write_recipe())
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left >= {"arith.json", "adapter_model.safetensors", "recipe.yaml", "metrics.jsonl", "curve.png"}
    assert not any(name.startswith("checkpoint") for name in left) and "training_args.bin" not in left
    manifest = read_manifest(str(tmp_path / "out"))
    assert manifest is not None and manifest.kind == "adapter"
    assert manifest.objective["name"] == "arm" and manifest.objective["beta"] == 0.5
    assert (tmp_path / "out" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    again = Recipe.load(tmp_path / "out" / "recipe.yaml")
    assert again.dump() == Recipe.load(tmp_path / "recipe.yaml").dump()


def test_dpo_starts_from_its_reference(write_recipe: Write) -> None:
    reports = run(write_recipe(objective={"name": "dpo", "beta": 0.1})).reports
    assert reports[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert reports[0]["eval_accuracy"] == 0.5
    assert reports[-1]["eval_loss"] < math.log(2) and reports[-1]["eval_margin"] > 0


def test_a_full_dpo_keeps_the_reference_of_the_model_before_it(
    write_recipe: Write, tmp_path: Path, tiny_llama: str
) -> None:
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:7]))
    recipe = write_recipe(
        objective={"name": "dpo", "beta": 0.1}, adapter=None, data={"validation": "held.jsonl"}
    )
    trained = run(recipe)
    assert trained.reports[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-4)
    before = scores(LLM(tiny_llama, dtype="float32"), PAIRS[:7])
    after = scores(LLM(str(tmp_path / "out"), dtype="float32"), PAIRS[:7])
    pairs = zip(*after, *before, strict=True)
    margins = [0.1 * ((good - good0) - (bad - bad0)) for good, bad, good0, bad0 in pairs]
    assert trained.reports[-1]["eval_margin"] == pytest.approx(sum(margins) / 7, abs=1e-3)
    assert not (tmp_path / "out" / "reference.safetensors").exists()


def test_supervised_fine_tuning_makes_a_model_of_the_answers(
    write_recipe: Write, tmp_path: Path, tiny_llama: str
) -> None:
    rows = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in PAIRS[:8]]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = run(
        write_recipe(
            objective={"name": "sft"},
            adapter=None,
            data={"train": "texts.jsonl", "validation": "texts.jsonl"},
        )
    )
    engine = Engine(LLM(tiny_llama, dtype="float32"), device="cpu")
    before = engine.score([r["prompt"] for r in rows], [r["completion"] for r in rows], end=True)
    tokens = sum(len(one.token_ids) for one in before)
    expected = -sum(one.totals["formula"] for one in before) / tokens
    assert trained.reports[0]["eval_loss"] == pytest.approx(expected, abs=1e-3)
    assert trained.reports[-1]["eval_loss"] < trained.reports[0]["eval_loss"]
    assert LLM(str(tmp_path / "out")).model == str(tmp_path / "out")


@pytest.mark.parametrize("adapter", [None, {"r": 4, "targets": ["q_proj", "v_proj"]}])
def test_a_reward_model_guides(
    write_recipe: Write, tmp_path: Path, tiny_llama: str, adapter: dict[str, Any] | None
) -> None:
    trained = run(write_recipe(objective={"name": "reward"}, adapter=adapter))
    assert trained.reports[0]["eval_loss"] > trained.reports[-1]["eval_loss"]
    reward = RewardModel(str(tmp_path / "out"))
    base = LLM(tiny_llama, dtype="float32")
    formula = Formula("base + guide(reward, on=base, k=3)", base=base, reward=reward)
    found = Engine(formula, device="cpu").generate(["Say hello to Ann."], max_new_tokens=3)
    assert len(found[0].token_ids) <= 3
    assert "kind: reward_model" in trained.operand
    otherwise = Formula(str(formula), base=base, reward=RewardModel(reward.model, template="{text}"))
    assert any("runs with '{text}'" in note for note in Engine(otherwise, device="cpu").notes)
    with pytest.raises(ValueError, match="declare it as a RewardModel"):
        LLM(str(tmp_path / "out"))


def test_a_dropped_loss_of_no_number_stops_and_names_its_rows(write_recipe: Write) -> None:
    from trainers import TrainingError

    recipe = write_recipe(
        training={"learning_rate": 1e30, "max_grad_norm": 1e30, "max_steps": 6}, data={"validation": None}
    )
    with pytest.raises(TrainingError, match=r"no number at step \d, in the batch with .*pairs.jsonl:\d+"):
        run(recipe)


def test_metrics_are_one_object_a_report(write_recipe: Write, tmp_path: Path) -> None:
    run(write_recipe())
    reports = read_metrics(tmp_path / "out")
    assert [report["step"] for report in reports if "eval_loss" in report] == [0, 2, 4]
    assert [report["step"] for report in reports if "loss" in report] == [1, 2, 3, 4]
    training = next(report for report in reports if "loss" in report)
    assert {"accuracy", "margin", "chosen_log_prob", "tokens_per_second", "learning_rate"} <= set(training)


def test_training_in_a_half_trains_whole_weights(write_recipe: Write, tmp_path: Path) -> None:
    """Steps of 1e-5 would be lost to weights in bfloat16."""
    from safetensors.torch import load_file

    operand = {"dtype": "bfloat16"}
    trained = run(write_recipe(operand=operand, adapter=None))
    assert trained.reports[-1]["eval_loss"] < trained.reports[0]["eval_loss"]
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
