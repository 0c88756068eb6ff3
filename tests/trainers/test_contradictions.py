"""Reward models that read texts in another way than in their training: whoever uses them says so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arith import RewardModel
from arith.cli.app import app
from arith.study.scoring.sequence_model import SequenceModelScorer
from trainers import Recipe, train

TOLD = "was trained with template None, and runs with 'Text: {text}'"


@pytest.fixture
def reward(write_recipe: Callable[..., Path], tmp_path: Path) -> str:
    train(Recipe.load(write_recipe(objective={"name": "reward"}, data={"validation": None})))
    return str(tmp_path / "out")


@pytest.mark.parametrize(("template", "times"), [(None, 0), ("Text: {text}", 1)])
def test_a_check_tells_of_guides(
    reward: str, tiny_llama: str, tmp_path: Path, template: str | None, times: int
) -> None:
    spec = tmp_path / "spec.yaml"
    guide = {"kind": "reward_model", "model": reward, "template": template}
    operands = {"base": {"model": tiny_llama}, "nice": guide}
    spec.write_text(json.dumps({"formula": "base + guide(nice, on=base, k=3)", "operands": operands}))
    done = CliRunner().invoke(app, ["check", str(spec)])
    assert done.exit_code == 0, done.output
    assert done.stdout.count(TOLD) == times


def test_a_scorer_tells_of_its_model(reward: str) -> None:
    assert TOLD not in SequenceModelScorer(RewardModel(reward), "cpu").check(())
    assert TOLD in SequenceModelScorer(RewardModel(reward, template="Text: {text}"), "cpu").check(())
