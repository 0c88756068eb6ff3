"""Recipes over tiny models, written to a folder of the test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainerCallback

from arith.operands.quiet import quiet
from arith.operands.tokenizers import load_tokenizer
from trainers import Recipe, train
from trainers.loop.arguments import training_arguments
from trainers.loop.assembly import make_trainer
from trainers.run import recipe_data

PAIRS = [
    {"prompt": f"Say {word} to {name}.", "chosen": f"{word}, dear {name}!", "rejected": f"Go away, {name}"}
    for word in ("hello", "good day", "welcome", "hi")
    for name in ("Ann", "Bob", "Cid", "Dora", "Eve", "Finn")
]


def write_pairs(path: Path, pairs: list[dict[str, Any]] = PAIRS) -> Path:
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def made(recipe: Recipe, say: Callable[[str], None] = print) -> Any:
    """The recipe's trainer, not yet begun."""
    tokenizer = load_tokenizer(recipe.operand)
    arguments = training_arguments(recipe)
    with quiet():
        data = recipe_data(recipe, tokenizer, arguments.seed)
        return make_trainer(recipe, arguments, data, tokenizer, say)


def begun(write_recipe: Callable[..., Path], tmp_path: Path, **keys: Any) -> Path:
    """A recipe with these keys; a run of it was cut off at its checkpoint of step 2."""

    class Stop(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise KeyboardInterrupt

    def stopping(*given: Any) -> Any:
        trainer = make_trainer(*given)
        trainer.add_callback(Stop())
        return trainer

    recipe = write_recipe(**keys)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trainers.run.make_trainer", stopping)
        train(Recipe.load(recipe))
    assert (tmp_path / "out" / "checkpoint-2" / "trainer_state.json").exists()
    return recipe


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_llama: str) -> Callable[..., Path]:
    """`write_recipe(**keys)` writes `recipe.yaml` and its data; the keys are over those of a small run."""

    def write(name: str = "recipe.yaml", **keys: Any) -> Path:
        write_pairs(tmp_path / "pairs.jsonl")
        content: dict[str, Any] = {
            "objective": {"name": "arm", "beta": 0.5},
            "operand": {"model": tiny_llama, "dtype": "float32"},
            "adapter": {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]},
            "data": {"source": "preference", "train": "pairs.jsonl", "validation": 0.25},
            "training": {
                "learning_rate": 0.01, "max_steps": 4, "per_device_train_batch_size": 4, "eval_steps": 2,
                "save_steps": 2, "logging_steps": 1,
            },
            "output": "out",
        }  # fmt: skip
        for key, value in keys.items():
            both = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = content[key] | value if both and key in ("data", "training", "operand") else value
        path = tmp_path / name
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write
