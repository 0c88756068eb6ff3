"""`arith train`: what a user types and sees, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PAIRS = [
    {"prompt": f"Say hi to {name}.", "chosen": f"Hi {name}!", "rejected": f"No, {name}."}
    for name in ("Ann", "Bob", "Cid", "Dora", "Eve", "Finn")
]


@pytest.fixture
def write(tmp_path: Path, tiny_llama: str) -> Callable[..., Path]:
    """`write(pairs, **keys)` writes a recipe and its data; a dotted key is one inside."""

    def write_recipe(pairs: list[Any] | str = PAIRS, /, **keys: Any) -> Path:
        text = pairs if isinstance(pairs, str) else "".join(json.dumps(pair) + "\n" for pair in pairs)
        (tmp_path / "pairs.jsonl").write_text(text)
        content: dict[str, Any] = {
            "objective": {"name": "arm", "beta": 0.5},
            "operand": {"model": tiny_llama, "dtype": "float32"},
            "adapter": {"r": 2, "targets": ["q_proj"]},
            "data": {"source": "preference", "train": "pairs.jsonl"},
            "training": {"max_steps": 2, "learning_rate": 0.01, "per_device_train_batch_size": 2},
            "output": "arms/kind",
        }
        for key, value in keys.items():
            *outer, last = key.split("__")
            inner = content
            for name in outer:
                inner = inner[name]
            inner[last] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write_recipe


def test_a_recipe_becomes_an_operand_of_a_formula(
    arith: Any, write: Callable[..., Path], tmp_path: Path, tiny_llama: str
) -> None:
    done = arith("train", str(write(data__validation=0.34)))
    assert done.exit_code == 0, done.stderr
    assert "validation (2 rows)" in done.stdout and "accuracy" in done.stdout
    assert "6 rows read, 6 used" in done.stderr and "step 2/2" in done.stderr
    lines = done.stdout[done.stdout.index("operands:") :]
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"formula: base + 0.5*kind\n{lines}\n  base: {{model: {tiny_llama}}}\n")
    shown = arith("check", str(spec))
    assert shown.exit_code == 0 and "kind+adapter" in shown.stdout
    written = arith("generate", str(spec), "--prompt", "Say hi to Ann.", "--max-new-tokens", "3")
    assert written.exit_code == 0, written.stderr


def test_values_are_set_over_the_recipe(arith: Any, write: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    done = arith("train", str(write()), "--set", "training.max_steps=1", "--set", f"output={out}")
    assert done.exit_code == 0, done.stderr
    assert yaml.safe_load((out / "recipe.yaml").read_text())["training"]["max_steps"] == 1
    again = arith("train", str(write()), "--set", f"output={out}")
    assert again.exit_code == 2
    assert "training.max_steps: 1 -> 2" in again.stderr


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"objective": {"name": "ppo"}}, ["objective.name", "arm, dpo, sft, reward", "ppo"]),
    ({"objective": {"beta": 0.1}}, ["objective.name", "missing"]),
    ({"objective__betta": 0.1}, ["unknown key `objective.betta`", "did you mean `beta`?"]),
    ({"objective__beta": 0}, ["objective.beta", "more than 0"]),
    ({"objective": {"name": "dpo", "margin": 1.0}}, ["objective.margin"]),
    ({"operand__modell": "x"}, ["unknown key `operand.modell`", "did you mean `model`?"]),
    ({"operand": {"model": "no/such/folder/here"}}, ["no/such/folder/here"]),
    ({"operand": {"model": "./no/model"}}, ["error: there is no model folder"]),
    ({"operand__template": "no place"}, ["recipe.yaml:", "{prompt}"]),
    ({"objective": {"name": "reward"}, "operand__system": "Be kind."}, ["no system prompt"]),
    ({"adapter__targets": ["q_proj", "c_attn"]}, ["`c_attn` names no layer of this llama", "q_proj"]),
    ({"adapter__targets": ["norm"]}, ["`norm` names no layer of this llama", "its linear layers are"]),
    ({"adapter__targets": ["q_prj"]}, ["did you mean `q_proj`?"]),
    ({"adapter__rank": 4}, ["unknown key `adapter.rank`"]),
    ({"adapter__r": 0}, ["adapter.r"]),
    ({"data__source": "preferences"}, ["data.source", "preference"]),
    ({"data__train": "nowhere.jsonl"}, ["nowhere.jsonl"]),
    ({"data__validation": 1.5}, ["data.validation"]),
    ({"data__max_length": 1}, ["data.max_length"]),
    ({"training__learning_rat": 1.0}, ["unknown key `training.learning_rat`", "`learning_rate`?"]),
    ({"training__bf16": True}, ["training.bf16", "the operand's `dtype` is the training's"]),
    ({"training__learning_rate": "fast"}, ["`training.learning_rate` must be a number", "fast"]),
    ({"training__max_steps": 2.5}, ["training.max_steps"]),
    ({"training__max_steps": 0}, ["`training.max_steps` must be more than 0 (it is 0)"]),
    ({"training__num_train_epochs": -1}, ["`training.num_train_epochs` must be more than 0"]),
    ({"training__learning_rate": -1.0}, ["`training.learning_rate` must be at least 0"]),
    ({"training__per_device_train_batch_size": 0}, ["`training.per_device_train_batch_size` must be at"]),
    ({"training__gradient_accumulation_steps": 0}, ["`training.gradient_accumulation_steps` must be at"]),
    ({"training__seed": -1}, ["`training.seed` must be at least 0"]),
    ({"training__save_only_model": True}, ["training.save_only_model", "the state of its optimiser"]),
    ({"training__lr_scheduler_type": "zigzag"}, ["training", "zigzag"]),
    ({"training__eval_strategy": "steps"}, ["nothing to validate on"]),
    ({"training__learning_rate": float("nan")}, ["`training.learning_rate` must be finite (it is nan)"]),
    ({"training__num_train_epochs": float("inf")}, ["`training.num_train_epochs` must be finite"]),
    ({"training__ignore_data_skip": True}, ["training.ignore_data_skip", "the rows that are left"]),
    ({"training": [1]}, ["`training` must be a mapping"]),
    ({"output": ""}, ["`output` is empty"]),
    ({"extra": 1}, ["unknown key `extra`"]),
]


@pytest.mark.parametrize(("keys", "words"), BAD)
def test_a_wrong_recipe_is_refused_in_one_message(
    arith: Any, write: Callable[..., Path], keys: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    done = arith("train", str(write(**keys)))
    assert done.exit_code == 2, done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    left = list((tmp_path / "arms" / "kind").glob("[!.]*"))
    assert left == [], "a refused recipe leaves nothing that stands in the way of the next"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("", ["pairs.jsonl", "no rows"]),
        ('{"prompt": "a", "chosen": "b"\n', ["pairs.jsonl:1", "JSON"]),
        ([{"question": "a", "chosen": "b", "rejected": "c"}], ["no column `prompt`"]),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], ["no row can be used", "1 row read, 0 used"]),
        ([{"prompt": "a", "chosen": "", "rejected": "b"}], ["no row can be used", "empty"]),
    ],
)
def test_data_that_cannot_be_used_is_refused(
    arith: Any, write: Callable[..., Path], pairs: list[Any] | str, words: list[str]
) -> None:
    done = arith("train", str(write(pairs)))
    assert done.exit_code == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_label_that_is_neither_answer_is_refused(arith: Any, write: Callable[..., Path]) -> None:
    row = {"prompt": "a", "response_0": "b", "response_1": "c", "better_response_id": 2}
    done = arith("train", str(write([row], data__source="safe_rlhf_helpful")))
    assert done.exit_code == 2
    assert "pairs.jsonl:1" in done.stderr and "better_response_id" in done.stderr and "2" in done.stderr


def test_a_run_that_is_stopped_says_how_it_goes_on(
    arith: Any, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.loop.trainer import ObjectiveTrainer

    recipe = write(training__max_steps=4, training__save_steps=1)

    def stopping(step: int) -> Callable[..., None]:
        def stop(trainer: ObjectiveTrainer) -> None:
            if trainer.state.global_step == step:
                raise KeyboardInterrupt

        return stop

    for step, way in ((0, "the same command begins anew"), (2, "the same command goes on behind step 2")):
        monkeypatch.setattr(ObjectiveTrainer, "begin_step", stopping(step))
        done = arith("train", str(recipe))
        assert done.exit_code == 130
        assert done.stderr.endswith(f"{way}\nstopped\n"), done.stderr
    monkeypatch.undo()
    assert "going on behind step 2" in arith("train", str(recipe)).stderr


def test_the_home_of_nobody_is_a_folder_like_any_other(
    arith: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    done = arith("train", str(write(output="~nobody-of-this-name/kind")))
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "~nobody-of-this-name" / "kind" / "arith.json").exists()


@pytest.mark.parametrize("change", ["training", "nonsense.key=1", "=3", "objective.name.inner=1"])
def test_a_change_that_cannot_be_made_is_refused(arith: Any, write: Callable[..., Path], change: str) -> None:
    done = arith("train", str(write()), "--set", change)
    assert done.exit_code == 2 and f"--set {change}" in done.stderr


def test_a_tokenizer_without_padding_trains(
    arith: Any, write: Callable[..., Path], new_llama: Callable[..., str]
) -> None:
    """Padding is never read, so no token has to stand for it."""
    folder = Path(new_llama("without_padding", seed=8, pad_token_id=None))
    config = folder / "tokenizer_config.json"
    content = json.loads(config.read_text())
    del content["pad_token"]
    config.write_text(json.dumps(content))
    for objective in ("arm", "reward"):
        recipe = write(operand={"model": str(folder)}, objective={"name": objective}, output=objective)
        done = arith("train", str(recipe))
        assert done.exit_code == 0, done.stderr
