"""Runs that are cut off, and folders that hold something else."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from arith.errors import SpecError
from tests.trainers.conftest import PAIRS, begun, write_pairs
from trainers import Recipe, train
from trainers.output.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]
LONG = {"max_steps": 40, "save_steps": 5, "eval_steps": 20, "logging_steps": 1, "num_train_epochs": 9}
DROPOUT = {"r": 4, "alpha": 8, "dropout": 0.3, "targets": ["q_proj", "v_proj"]}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    whole = folder / "model.safetensors"
    return load_file(whole if whole.exists() else folder / "adapter_model.safetensors")


def killed_behind(recipe: Path, step: int) -> None:
    """Start a run and kill it once the checkpoint of that step is whole."""
    run = subprocess.Popen([sys.executable, "-m", "arith", "train", str(recipe)], cwd=ROOT)
    state = recipe.parent / "out" / f"checkpoint-{step}" / "trainer_state.json"
    deadline = time.monotonic() + 120
    while not state.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert state.exists() and run.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("objective", "adapter"), [("arm", DROPOUT), ("dpo", None)], ids=["arm-lora", "dpo-full"]
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    write_recipe: Write, tmp_path: Path, objective: str, adapter: dict[str, Any] | None
) -> None:
    """Same order of the data over several epochs, same dropout, same optimiser, and of a full fine-tune the
    reference of its beginning: the same weights."""
    whole = write_recipe(training=LONG, adapter=adapter, objective={"name": objective})
    train(Recipe.load(whole, [f"output={tmp_path / 'whole'}"]))
    killed_behind(whole, 10)
    said: list[str] = []
    train(Recipe.load(whole), said.append)
    step = int(next(match[1] for line in said if (match := re.match(r"going on behind step (\d+)", line))))
    assert step >= 10
    expected = weights(tmp_path / "whole")
    for name, found in weights(tmp_path / "out").items():
        assert torch.allclose(found, expected[name], atol=1e-5), name
    expected_reports = read_metrics(tmp_path / "whole")
    reports = read_metrics(tmp_path / "out")
    assert [report["step"] for report in reports] == [report["step"] for report in expected_reports]
    for mine, theirs in zip(reports, expected_reports, strict=True):
        for name in ("loss", "eval_loss"):
            assert mine.get(name) == pytest.approx(theirs.get(name), abs=1e-4)


def test_a_run_that_was_cut_off_behind_its_last_step_takes_no_step_more(
    write_recipe: Write, tmp_path: Path
) -> None:
    recipe = write_recipe(training={"max_steps": 6, "save_steps": 3, "eval_steps": 3})
    train(Recipe.load(recipe, [f"output={tmp_path / 'whole'}"]))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("trainers.run.save", killed)
        train(Recipe.load(recipe))
    train(Recipe.load(recipe))
    expected = weights(tmp_path / "whole")
    for name, found in weights(tmp_path / "out").items():
        assert torch.equal(found, expected[name]), name
    assert len(read_metrics(tmp_path / "out")) == len(read_metrics(tmp_path / "whole"))


def test_a_checkpoint_that_was_cut_off_is_passed_over(write_recipe: Write, tmp_path: Path) -> None:
    recipe = begun(write_recipe, tmp_path)
    torn = tmp_path / "out" / "checkpoint-3"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 3, "max_st')
    said: list[str] = []
    train(Recipe.load(recipe), said.append)
    assert "going on behind step 2" in said
    assert not torn.exists()


def test_a_finished_folder_and_one_of_another_recipe_are_refused(write_recipe: Write, tmp_path: Path) -> None:
    recipe = begun(write_recipe, tmp_path)
    with pytest.raises(SpecError) as refused:
        train(Recipe.load(recipe, ["objective.beta=0.25", "training.seed=7"]))
    assert "objective.beta: 0.5 -> 0.25" in str(refused.value)
    assert "training.seed: null -> 7" in str(refused.value)
    assert "max_steps" not in str(refused.value)
    train(Recipe.load(recipe))
    with pytest.raises(SpecError, match="this recipe is finished"):
        train(Recipe.load(recipe))


def test_a_run_goes_on_with_its_own_data_only(write_recipe: Write, tmp_path: Path) -> None:
    recipe = begun(write_recipe, tmp_path)
    write_pairs(tmp_path / "pairs.jsonl", PAIRS[::-1])
    with pytest.raises(SpecError, match="was begun with other data"):
        train(Recipe.load(recipe))


def test_a_run_goes_on_with_its_own_validation_only(write_recipe: Write, tmp_path: Path) -> None:
    held = write_pairs(tmp_path / "held.jsonl", PAIRS[:5])
    recipe = begun(write_recipe, tmp_path, data={"validation": "held.jsonl"})
    write_pairs(held, PAIRS[1:6])
    with pytest.raises(SpecError, match="was begun with other data"):
        train(Recipe.load(recipe))
    assert (tmp_path / "out" / "checkpoint-2").exists()
    write_pairs(held, PAIRS[:5])
    assert train(Recipe.load(recipe)).reports[-1]["step"] == 4


def test_a_folder_with_other_things_or_of_another_process_is_left_alone(
    write_recipe: Write, tmp_path: Path
) -> None:
    recipe = write_recipe()
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(SpecError, match="another process"):
        train(Recipe.load(recipe))
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(SpecError, match=r"holds other things \(thesis.txt"):
        train(Recipe.load(recipe))
    assert sorted(path.name for path in out.iterdir()) == [".lock", "thesis.txt"]


def test_refused_data_leaves_a_folder_that_can_be_tried_again(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(data={"train": "missing.jsonl", "validation": None})
    with pytest.raises(SpecError, match=r"missing.jsonl"):
        train(Recipe.load(recipe))
    (tmp_path / "missing.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    assert train(Recipe.load(recipe)).folder == tmp_path / "out"
