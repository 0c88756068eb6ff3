"""The package as a library: what a caller may give, and what is said of what he may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainers
from arith.errors import OptionError
from trainers import Recipe, train


def test_every_name_of_the_package_is_there() -> None:
    for name in trainers.__all__:
        assert getattr(trainers, name).__name__ == name


def test_a_recipe_is_trained_by_its_path(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    assert train(str(write_recipe())).folder == tmp_path / "out"


@pytest.mark.parametrize("given", [None, 5, {"objective": {"name": "arm"}}])
def test_what_is_no_recipe_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="a recipe is loaded from the path of a YAML file, not from"):
        train(given)


@pytest.mark.parametrize("changes", ["training.max_steps=1", {"training.max_steps": 1}])
def test_changes_that_are_no_list_are_refused(write_recipe: Callable[..., Path], changes: Any) -> None:
    with pytest.raises(OptionError, match="a list of texts"):
        Recipe.load(write_recipe(), changes)
