"""Values that are set over a recipe: any key, however deep, and a place of their own in messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arith.errors import ArithError, OptionError, SpecError
from trainers import Recipe
from trainers.loop.arguments import training_arguments

Write = Callable[..., Path]


def flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """Its values by keys of two parts, or of one."""
    found: dict[str, Any] = {}
    for outer, inner in recipe.items():
        parts = inner if isinstance(inner, dict) else {"": inner}
        found |= {f"{outer}.{name}".rstrip("."): value for name, value in parts.items()}
    return found


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("training.max_steps=7", "training.max_steps", 7),
        ("training.learning_rate=1.0e-4", "training.learning_rate", 1e-4),
        ("training.lr_scheduler_kwargs.min_lr=0.1", "training.lr_scheduler_kwargs", {"min_lr": 0.1}),
        ("training.lr_scheduler_kwargs={min_lr: 0.1}", "training.lr_scheduler_kwargs", {"min_lr": 0.1}),
        ("adapter.targets=[k_proj, o_proj]", "adapter.targets", ["k_proj", "o_proj"]),
        ("adapter.targets=null", "adapter.targets", None),
        ("data.validation=0.5", "data.validation", 0.5),
        ("data.columns.prompt=question", "data.columns", {"prompt": "question"}),
        ("data.max_length = 64", "data.max_length", 64),
        ("operand.system='a = b'", "operand.system", "a = b"),
        ("objective.loss=hinge", "objective.loss", "hinge"),
    ],
)
def test_a_change_sets_the_value_at_its_key_and_no_other(
    write_recipe: Write, change: str, key: str, value: Any
) -> None:
    path = write_recipe()
    before, found = flat(Recipe.load(path).dump()), flat(Recipe.load(path, [change]).dump())
    assert found.get(key) == value != before.get(key)
    others = before.keys() | found.keys() - {key}
    assert all(found.get(other) == before.get(other) for other in others if not other.startswith(key))


def test_a_change_leaves_a_part_of_the_recipe_out(write_recipe: Write) -> None:
    recipe = Recipe.load(write_recipe(), ["adapter=null", "training={}"])
    assert recipe.adapter is None and recipe.training == {}


def test_of_two_changes_the_later_holds(write_recipe: Write) -> None:
    recipe = Recipe.load(
        write_recipe(), ["training={max_steps: 1}", "training.max_steps=2", "training.seed=3"]
    )
    assert recipe.training == {"max_steps": 2, "seed": 3}


def test_paths_of_a_change_are_seen_from_the_current_folder(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = Recipe.load(write_recipe(), ["data.validation=held.jsonl", "output=out"])
    data = recipe.dump()["data"]
    assert data["train"]["path"] == str(tmp_path / "pairs.jsonl")
    assert data["validation"]["path"] == str(tmp_path / "here" / "held.jsonl")
    assert recipe.output == tmp_path / "here" / "out"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.max_steps", "must be KEY=VALUE"),
        ("trainin.max_steps=1", "must be KEY=VALUE"),
        ("training..max_steps=1", "must be KEY=VALUE"),
        ("output.inner=1", "`output` is no mapping of keys to values"),
        ("adapter.targets.first=q_proj", "`targets` is no mapping of keys to values"),
        ("adapter.targets=[q_proj", "--set adapter.targets=[q_proj"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(write_recipe: Write, change: str, told: str) -> None:
    with pytest.raises(ArithError) as refused:
        Recipe.load(write_recipe(), [change])
    assert f"--set {change}" in str(refused.value) and told in str(refused.value)
    assert isinstance(refused.value, OptionError | SpecError)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("training.max_steps=2.5", "`training.max_steps` must be"),
        ("training.learning_rat=1", "unknown key `training.learning_rat`"),
        ("training={learning_rat: 1}", "unknown key `training.learning_rat`"),
        ("data.max_length=none", "`data.max_length` must be"),
        ("data.trian=x.jsonl", "unknown key `data.trian`"),
        ("adapter.targets=q_proj", "`adapter.targets` must be"),
        ("adapter.targets=[q_proj, 3]", "`adapter.targets.1` must be text"),
        ("adapter.targets=[]", "`adapter.targets` must"),
        ("adapter.reward=3", "unknown key `adapter.reward`"),  # which is also the name of an objective
        ("objective.arm=3", "unknown key `objective.arm`"),
        ("data.columns.dpo=3", "`data.columns.dpo` must be text"),
        ("objective={name: dpo, loss: ipo, label_smoothing: 0.1}", "which the loss ipo doesn't take"),
        ("objective={name: arm, loss: hinge, label_smoothing: 0.1}", "which the loss hinge doesn't take"),
        ("operand.system=a: b", "`operand.system` must be text, not a mapping"),
        ("operand.dtype=float8", "`operand.dtype` must be"),
        ("operand.template=no place", "has no {prompt}"),
    ],
)
def test_a_value_that_is_refused_has_the_change_for_its_place(
    write_recipe: Write, change: str, told: str
) -> None:
    with pytest.raises(SpecError) as refused:
        training_arguments(Recipe.load(write_recipe(), [change]))
    assert str(refused.value).startswith(f"--set {change}: "), refused.value
    assert told in str(refused.value), refused.value
