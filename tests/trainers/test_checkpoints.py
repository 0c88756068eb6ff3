"""Checkpoints that are damaged: passed over for the one before, or told in one message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from arith.errors import SpecError
from tests.trainers.conftest import PAIRS, write_pairs
from trainers import Recipe, train
from trainers.output.checkpoints import checkpoints, damage
from trainers.output.folder import way_on

Write = Callable[..., Path]
STEPS = {"max_steps": 6, "save_steps": 2, "eval_steps": 6, "save_total_limit": 3}
PARTS = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


class _Stop(TrainerCallback):
    def __init__(self, step: int):
        self._step = step

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def stopped(recipe: Path, step: int, *changes: str) -> None:
    """A run of the recipe that ends behind the checkpoint of this step."""
    from trainers.loop import assembly

    made = assembly.make_trainer

    def stopping(*given: Any) -> Any:
        trainer = made(*given)
        trainer.add_callback(_Stop(step))
        return trainer

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trainers.run.make_trainer", stopping)
        train(Recipe.load(recipe, changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def removed(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [removed, emptied, halved])
def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(
    write_recipe: Write, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """transformers itself passes over missing states of the optimiser: the weights would be others."""
    recipe = write_recipe(training=STEPS)
    train(Recipe.load(recipe, [f"output={tmp_path / 'whole'}"]))
    stopped(recipe, 4)
    expected, kept = weights(tmp_path / "whole"), tmp_path / "kept"
    shutil.move(tmp_path / "out", kept)
    for name in (*PARTS, "adapter_model.safetensors", "trainer_state.json"):
        shutil.copytree(kept, tmp_path / "out")
        spoil(tmp_path / "out" / "checkpoint-4" / name)
        said: list[str] = []
        train(Recipe.load(recipe), said.append)
        assert said[0].startswith("checkpoint-4 is passed over, and removed: "), said
        assert "going on behind step 2" in said
        for key, found in weights(tmp_path / "out").items():
            assert torch.equal(found, expected[key]), (name, key)
        shutil.rmtree(tmp_path / "out")


def test_a_damaged_checkpoint_stays_where_no_other_is_whole(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(training=STEPS)
    stopped(recipe, 2)
    checkpoint = tmp_path / "out" / "checkpoint-2"
    halved(checkpoint / "scheduler.pt")
    with pytest.raises(SpecError, match=r"checkpoint-2: .*scheduler.pt isn't whole.*\n.*remove it to begin"):
        train(Recipe.load(recipe))
    assert (checkpoint / "adapter_model.safetensors").exists()
    shutil.rmtree(checkpoint)
    assert train(Recipe.load(recipe)).reports[-1]["step"] == 6


def test_a_run_cut_off_in_its_first_checkpoint_begins_anew(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(training=STEPS)
    stopped(recipe, 2)
    removed(tmp_path / "out" / "checkpoint-2" / "trainer_state.json")
    said: list[str] = []
    trained = train(Recipe.load(recipe), said.append)
    assert said[0].endswith("it was cut off while it was written")
    assert [report["step"] for report in trained.reports if "eval_loss" in report] == [0, 6]


def test_a_state_of_another_step_and_a_missing_shard_are_damage(write_recipe: Write, tmp_path: Path) -> None:
    stopped(write_recipe(training=STEPS, adapter=None), 2)
    (checkpoint,) = checkpoints(tmp_path / "out")
    assert damage(checkpoint, PARTS) is None
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"head": "model-00002-of-00002.safetensors"}}))
    assert damage(checkpoint, PARTS) == "model-00002-of-00002.safetensors is missing"
    index.unlink()
    removed(checkpoint / "model.safetensors")
    assert damage(checkpoint, PARTS) == "its weights are missing"
    assert damage(checkpoint, ()) is None, "divided weights have names of their own"
    (checkpoint / "trainer_state.json").write_text('{"global_step": 3}')
    assert damage(checkpoint, ()) == "trainer_state.json isn't that of this step"


def test_a_folder_of_the_users_is_no_checkpoint(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(training=STEPS)
    stopped(recipe, 2)
    own = tmp_path / "out" / "checkpoint-before-dinner"
    shutil.copytree(tmp_path / "out" / "checkpoint-2", own)
    train(Recipe.load(recipe))
    assert own.is_dir() and not checkpoints(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.json", "", "data.json: doesn't tell on what data"),
        ("data.json", "{}", "data.json: doesn't tell on what data"),
        ("metrics.jsonl", '{"step": 0}\nnothing\n', "metrics.jsonl:2: not a report"),
        ("metrics.jsonl", "[]\n", "metrics.jsonl:1: not a report"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl:1: not a report"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    write_recipe: Write, tmp_path: Path, name: str, content: str, message: str
) -> None:
    recipe = write_recipe(training=STEPS)
    stopped(recipe, 2)
    (tmp_path / "out" / name).write_text(content)
    with pytest.raises(SpecError, match=message):
        train(Recipe.load(recipe))
    assert (tmp_path / "out" / "checkpoint-2").is_dir()


def test_a_stopped_run_tells_its_way_on(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(training=STEPS)
    assert way_on(tmp_path / "out") == "no checkpoint was written yet: the same command begins anew"
    stopped(recipe, 4)
    assert way_on(tmp_path / "out") == "the same command goes on behind step 4"
    removed(tmp_path / "out" / "checkpoint-4" / "trainer_state.json")
    assert way_on(tmp_path / "out") == "the same command goes on behind step 2"


def test_a_reference_of_other_data_is_not_taken_over(write_recipe: Write, tmp_path: Path) -> None:
    """Nothing was trained yet, so other data are welcome; a model that is its own reference has the loss
    log 2 on them."""
    recipe = write_recipe(objective={"name": "dpo"}, adapter=None)
    from trainers.loop.trainer import ObjectiveTrainer

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(ObjectiveTrainer, "begin_step", interrupted)
        train(Recipe.load(recipe))
    assert (tmp_path / "out" / "reference.safetensors").exists()
    write_pairs(tmp_path / "pairs.jsonl", PAIRS[::-1])
    first = train(Recipe.load(recipe)).reports[0]
    assert first["eval_loss"] == pytest.approx(0.693147, abs=1e-4)
    assert first["eval_margin"] == pytest.approx(0, abs=1e-4)
