"""Activations computed anew in the backward pass: less is kept, and the run is the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers import Recipe, train
from trainers.loop.trainer import ObjectiveTrainer

Write = Callable[..., Path]
LORA = {"r": 4, "alpha": 8, "dropout": 0.3, "targets": ["q_proj", "v_proj"]}


@pytest.fixture
def checkpointed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the model recomputes, as each step begins."""
    found: list[bool] = []
    own = ObjectiveTrainer.training_step

    def noting(self: Any, model: Any, inputs: Any, count: Any = None) -> Any:
        layers = [one for one in model.modules() if getattr(one, "gradient_checkpointing", False)]
        found.append(bool(layers))
        return own(self, model, inputs, count)

    monkeypatch.setattr(ObjectiveTrainer, "training_step", noting)
    return found


def figures(report: dict[str, Any]) -> dict[str, float]:
    """Those that don't tell times."""
    return {name: value for name, value in report.items() if not name.endswith("_second")}


@pytest.mark.parametrize(
    ("objective", "adapter"), [("arm", None), ("arm", LORA), ("dpo", LORA), ("reward", None)]
)
def test_activations_computed_anew_change_no_figure_and_no_weight(
    write_recipe: Write,
    tmp_path: Path,
    checkpointed: list[bool],
    objective: str,
    adapter: dict[str, Any] | None,
) -> None:
    recipe = write_recipe(objective={"name": objective}, adapter=adapter, data={"validation": None})
    runs = {}
    for anew in (False, True):
        checkpointed.clear()
        folder = tmp_path / f"anew-{anew}"
        changes = [f"training.activation_checkpointing={str(anew).lower()}", f"output={folder}"]
        reports = train(Recipe.load(recipe, changes)).reports
        assert checkpointed == [anew] * 4
        whole = adapter is None or objective == "reward"
        runs[anew] = reports, load_file(folder / f"{'' if whole else 'adapter_'}model.safetensors")
    for mine, theirs in zip(runs[True][0], runs[False][0], strict=True):
        assert figures(mine) == pytest.approx(figures(theirs), rel=1e-4, abs=1e-5)
    for name, weight in runs[True][1].items():
        assert torch.allclose(weight, runs[False][1][name], atol=1e-4), name
