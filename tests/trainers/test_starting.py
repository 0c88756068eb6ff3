"""Runs that can't start, run out of memory or of disk: one message, and the folder serves the next try."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arith.errors import SpecError
from trainers import Recipe, TrainingError, train
from trainers.loop.trainer import ObjectiveTrainer

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"adam_beta1": 2.0}, "Invalid beta parameter"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"report_to": "nowhere"}, "nowhere is not supported"),
        ({"log_level": "loud"}, "KeyError: 'loud'"),
    ],
)
def test_a_start_that_failed_is_one_message_and_the_mended_recipe_runs(
    write_recipe: Write, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(TrainingError) as refused:
        train(Recipe.load(write_recipe(training=settings)))
    assert refused.value.message.startswith("training can't start: ") and words in refused.value.message
    assert "\n" not in refused.value.message and refused.value.hint is not None
    assert train(Recipe.load(write_recipe())).folder == tmp_path / "out"


def test_what_deepspeed_would_need_is_named(write_recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.loop.arguments.find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r"recipe.yaml:\d+: `training.deepspeed` needs the package deepspeed"):
        train(Recipe.load(write_recipe(training={"deepspeed": "zero.json"})))
    train(Recipe.load(write_recipe()))


def failing(name: str, step: int, error: Exception) -> Callable[..., Any]:
    """The trainer's method, which raises the error from that step on."""
    own = getattr(ObjectiveTrainer, name)

    def fails(trainer: ObjectiveTrainer, *given: Any, **named: Any) -> Any:
        if trainer.state.global_step >= step:
            raise error
        return own(trainer, *given, **named)

    return fails


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")],
)
def test_memory_that_runs_out_is_told_with_the_step(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recipe = Recipe.load(write_recipe())
    with monkeypatch.context() as patch:
        patch.setattr(ObjectiveTrainer, "compute_loss", failing("compute_loss", 3, error))
        with pytest.raises(TrainingError, match=r"memory ran out behind step 3\n.*activation_checkpointing"):
            train(recipe)
    assert (tmp_path / "out" / "checkpoint-2").is_dir()
    assert train(recipe).reports[-1]["step"] == 4


def test_another_error_in_the_middle_stays_what_it_is(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ValueError("a mistake of ours")
    monkeypatch.setattr(ObjectiveTrainer, "compute_loss", failing("compute_loss", 3, error))
    with pytest.raises(ValueError, match="a mistake of ours"):
        train(Recipe.load(write_recipe()))


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("_save_rng_state", FULL, "no space left on device"),
        ("_save_rng_state", RuntimeError("basic_ios::clear: iostream error"), "a file came to no end"),
        (
            "_save_rng_state",
            RuntimeError("[enforce fail at inline_container.cc:672]"),
            "a file came to no end",
        ),
        ("log", FULL, "no space left on device"),
    ],
)
def test_a_full_disk_keeps_the_checkpoint_before_and_the_same_recipe_goes_on(
    write_recipe: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    reason: str,
) -> None:
    recipe = Recipe.load(write_recipe())
    with monkeypatch.context() as patch:
        patch.setattr(ObjectiveTrainer, name, failing(name, 4, error))
        with pytest.raises(SpecError, match=f"out: can't be written: {reason}.*\n.*goes on"):
            train(recipe)
    said: list[str] = []
    assert train(recipe, said.append).reports[-1]["step"] == 4
    assert "going on behind step 2" in said


def test_a_picture_that_cannot_be_written_costs_no_training(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.load(write_recipe())

    def full(*_: Any) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr("trainers.run.draw_curve", full)
        with pytest.raises(SpecError, match="no space left on device"):
            train(recipe)
    assert not (tmp_path / "out" / "arith.json").exists()
    said: list[str] = []
    train(recipe, said.append)
    assert "going on behind step 4" in said and (tmp_path / "out" / "curve.png").exists()


def test_a_folder_that_holds_a_recipe_of_the_users_is_left_alone(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(output=".")
    before = recipe.read_text()
    with pytest.raises(SpecError, match=r"holds other things \(pairs.jsonl"):
        train(Recipe.load(recipe))
    (tmp_path / "pairs.jsonl").rename(tmp_path.parent / "pairs.jsonl")
    with pytest.raises(SpecError, match=r"holds other things \(recipe.yaml"):
        train(Recipe.load(recipe))
    assert recipe.read_text() == before
