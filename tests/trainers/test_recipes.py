"""The recipes that are shipped: the paper's figures, and each a whole run once its models are small ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.conftest import PAIRS
from trainers import Recipe, train

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {path.stem: path for path in sorted((ROOT / "examples" / "recipes").glob("*.yaml"))}

# objective, β, learning rate, epochs, rows of a step, schedule, warm-up, weight decay, tokens, of the prompt
PAPER: dict[str, tuple[Any, ...]] = {
    "hh-arm": ("arm", 0.05, 5e-4, 1, 32, "cosine", 100, 0.05, 1024, 512),
    "hh-dpo": ("dpo", 0.1, 5e-4, 1, 32, "cosine", 100, 0.05, 1024, 512),
    "safe-rlhf-helpful-arm": ("arm", 0.5, 5e-4, 1, 32, "cosine", 20, 0.05, 1024, 512),
    "safe-rlhf-harmless-arm": ("arm", 0.01, 5e-4, 1, 32, "cosine", 20, 0.05, 1024, 512),
    "tulu-2-arm": ("arm", 0.1, 5e-7, 3, 32, "linear", 0.1, 0.0, 2048, None),
    "tulu-2-dpo": ("dpo", 0.1, 5e-7, 3, 32, "linear", 0.1, 0.0, 2048, None),
    "tulu-2-qlora-dpo": ("dpo", 0.1, 1e-4, 1, 128, "linear", 0.03, 0.0, 1024, None),
}
GPUS = {"tulu-2-arm": 8, "tulu-2-dpo": 8}


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_has_the_figures_of_the_paper(name: str) -> None:
    recipe = Recipe.load(RECIPES[name])
    training = recipe.training
    rows = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
    found = (
        recipe.objective.name, recipe.dump()["objective"]["beta"], training["learning_rate"],
        training["num_train_epochs"], rows * GPUS.get(name, 1), training["lr_scheduler_type"],
        training["warmup_steps"], training["weight_decay"], recipe.data.max_length,
        recipe.data.max_prompt_length,
    )  # fmt: skip
    assert found == PAPER[name]


ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": PAIRS,
    "hh_transcript": [
        {
            "prompt": f"\n\nHuman: {pair['prompt']}\n\nAssistant:",
            "chosen": f" {pair['chosen']}",
            "rejected": f" {pair['rejected']}",
        }
        for pair in PAIRS
    ],
    "safe_rlhf": [
        {
            "prompt": pair["prompt"], "response_0": pair["chosen"], "response_1": pair["rejected"],
            "better_response_id": 0, "safer_response_id": 0, "is_response_0_safe": True,
            "is_response_1_safe": False,
        }
        for pair in PAIRS
    ],
    "ultrafeedback": [
        {
            "prompt": pair["prompt"],
            **{
                side: [
                    {"role": "user", "content": pair["prompt"]},
                    {"role": "assistant", "content": pair[side]},
                ]
                for side in ("chosen", "rejected")
            },
            "score_chosen": 8.0, "score_rejected": 2.0,
        }
        for pair in PAIRS
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_with_a_small_model_and_local_data(name: str, tmp_path: Path, tiny_llama: str) -> None:
    recipe = Recipe.load(RECIPES[name])
    source = next(source for source in ROWS if recipe.data.source.startswith(source))
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[source]))
    changes = {
        "operand.model": tiny_llama, "operand.quantization": "null", "attention": "null", "data.train": data,
        "data.max_length": 256, "data.max_prompt_length": 128, "training.optim": "adamw_torch",
        "training.deepspeed": "null", "training.max_steps": 4, "training.warmup_steps": 0,
        "training.per_device_train_batch_size": 2,
        "training.gradient_accumulation_steps": 1, "training.learning_rate": 0.01,
        "output": tmp_path / "out",
    }  # fmt: skip
    if recipe.dump()["data"]["validation"] not in (0.05, 0.1):
        changes["data.validation"] = data
    small = Recipe.load(RECIPES[name], [f"{key}={value}" for key, value in changes.items()])
    trained = train(small)
    assert trained.reports[0]["step"] == 0 and trained.reports[-1]["step"] == 4
    assert trained.reports[-1]["eval_loss"] != trained.reports[0]["eval_loss"]
