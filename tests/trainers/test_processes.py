"""One run in several processes, which talk over gloo."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.conftest import begun
from trainers import Recipe, train
from trainers.output.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]
# Four rows a step: two slices of two in one process, or one of two in each of two.
STEPS = {"max_steps": 6, "eval_steps": 3, "per_device_train_batch_size": 2, "logging_steps": 1}

# Trains the recipe as `python -m trainers` does, and keeps the weights of each process beside it.
KEEPING = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
from trainers import Recipe, run

save = run.save

def keeping(trainer, *rest):
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    save_file(weights, Path(sys.argv[1]).with_name(f"rank-{os.environ['RANK']}.safetensors"))
    save(trainer, *rest)

run.save = keeping
run.train(Recipe.load(sys.argv[1]))
"""


def in_two(*words: str | Path) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    found = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(launch, cwd=ROOT, env=found, capture_output=True, text=True)


def assert_same_curve(one: Path, two: Path) -> None:
    names = ("loss", "eval_loss", "accuracy", "eval_accuracy", "margin", "chosen_log_prob")
    first, second = read_metrics(one), read_metrics(two)
    assert [report["step"] for report in first] == [report["step"] for report in second]
    for mine, theirs in zip(first, second, strict=True):
        for name in names:
            assert mine.get(name) == pytest.approx(theirs.get(name), abs=1e-4), (mine["step"], name)


def in_one(recipe: Path, folder: Path) -> None:
    train(Recipe.load(recipe, ["training.gradient_accumulation_steps=2", f"output={folder}"]))


def test_two_processes_make_the_loss_curve_of_one(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe(training=STEPS)
    in_one(recipe, tmp_path / "one")
    done = in_two("-m", "trainers", recipe)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("operands:") == 1
    assert_same_curve(tmp_path / "one", tmp_path / "out")


def test_two_processes_share_the_reference_and_the_weights_of_a_full_dpo(
    write_recipe: Write, tmp_path: Path
) -> None:
    """Each scores a part of the answers before the first step, and no part is even: 19 rows and 5."""
    recipe = write_recipe(objective={"name": "dpo"}, adapter=None, training=STEPS, data={"validation": 0.2})
    in_one(recipe, tmp_path / "one")
    script = tmp_path / "keeping.py"
    script.write_text(KEEPING)
    done = in_two(script, recipe)
    assert done.returncode == 0, done.stderr
    assert_same_curve(tmp_path / "one", tmp_path / "out")
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    alone = load_file(tmp_path / "one" / "model.safetensors")
    assert first.keys() == second.keys() == alone.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name
        assert torch.allclose(weight, alone[name], atol=1e-4), name


def test_other_processes_than_a_run_was_begun_with_are_refused(write_recipe: Write, tmp_path: Path) -> None:
    recipe = begun(write_recipe, tmp_path)
    done = in_two("-m", "trainers", recipe)
    assert done.returncode != 0
    assert "was begun with 4 rows a step, and these processes take 8" in done.stderr
    assert "start as many processes as then" in done.stderr
    assert train(Recipe.load(recipe)).reports[-1]["step"] == 4
