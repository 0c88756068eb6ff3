"""Numbers that are none: the run ends, and nothing that it leaves behind holds one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers import Recipe, train
from trainers.loop.errors import TrainingError
from trainers.loop.trainer import ObjectiveTrainer

Write = Callable[..., Path]
EACH: dict[str, Any] = {
    "save_steps": 1,
    "save_total_limit": 1,
    "max_steps": 6,
    "lr_scheduler_type": "constant",
}


def left(folder: Path) -> dict[str, bool]:
    """The files of weights in a folder, and whether they hold numbers alone."""
    return {
        str(path.relative_to(folder)): all(bool(one.isfinite().all()) for one in load_file(path).values())
        for path in sorted(folder.rglob("*.safetensors"))
    }


def refused(recipe: Path, told: str) -> None:
    with pytest.raises(TrainingError, match=told) as error:
        train(Recipe.load(recipe))
    assert "the last checkpoint is whole" in str(error.value.hint)


def test_a_loss_of_no_number_leaves_the_checkpoint_before_it(write_recipe: Write, tmp_path: Path) -> None:
    training = EACH | {"learning_rate": 1e30, "max_grad_norm": 1e30}
    refused(
        write_recipe(training=training, adapter=None, data={"validation": None}),
        "the loss is no number at step 2",
    )
    assert left(tmp_path / "out") == {"checkpoint-1/model.safetensors": True}


def test_a_gradient_of_no_number_leaves_the_checkpoint_before_it(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ObjectiveTrainer.compute_loss

    def spoiled(self: Any, model: Any, *given: Any, **settings: Any) -> Any:
        """Of the same value; the derivative of a root is infinite at 0, and 0 times that is no number."""
        loss = own(self, model, *given, **settings)
        if not model.training or self.state.global_step < 3:
            return loss
        return loss + (0 * next(one for one in model.parameters() if one.requires_grad)).sum().sqrt()

    monkeypatch.setattr(ObjectiveTrainer, "compute_loss", spoiled)
    refused(write_recipe(training=EACH), r"a gradient is no number at step 4, in the batch with .*jsonl:\d+")
    assert left(tmp_path / "out") == {"checkpoint-3/adapter_model.safetensors": True}
    monkeypatch.undo()
    assert train(Recipe.load(tmp_path / "recipe.yaml")).reports[-1]["step"] == 6


@pytest.mark.parametrize(
    ("training", "adapter"),
    [
        # A token that doesn't occur has no gradient: 0/0. No loss tells, since it doesn't occur.
        ({"adam_epsilon": 0.0}, None),
        # The step overflows, where the gradient didn't.
        ({"learning_rate": 1e38, "max_grad_norm": 1e30}, {"r": 4, "targets": ["q_proj"]}),
    ],
)
def test_weights_of_no_number_are_not_written(
    write_recipe: Write, tmp_path: Path, training: dict[str, Any], adapter: dict[str, Any] | None
) -> None:
    recipe = write_recipe(training=EACH | training, adapter=adapter, data={"validation": None})
    refused(recipe, "are no numbers behind step 1")
    assert left(tmp_path / "out") == {}


def test_weights_that_the_operands_dtype_cannot_hold_are_not_written(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.4e38 is a number in float32, and none in bfloat16."""
    own = ObjectiveTrainer.train_from

    def spoiling(self: Any, checkpoint: Any) -> None:
        own(self, checkpoint)
        with torch.no_grad():
            next(self.model.parameters()).fill_(3.4e38)

    monkeypatch.setattr(ObjectiveTrainer, "train_from", spoiling)
    refused(write_recipe(adapter=None, operand={"dtype": "bfloat16"}), "are no numbers behind step 4")
    assert left(tmp_path / "out") == {"checkpoint-4/model.safetensors": True}
