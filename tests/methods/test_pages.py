"""Each method has an example that runs, a page that shows it, a row in the index and a tested equation."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arith import Engine
from arith.operands.classifier import Classifier
from arith.operands.reward_model import RewardModel
from arith.spec import Spec
from tests.methods.published import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "methods"
METHODS = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
PROMPT = {"prompt": "Why?", "context": "Because."}
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| \[[^\]]+\]\(([a-z0-9-]+)\.md\) \| `([^`]+)` \| .+ \|$", re.MULTILINE)


def page(method: str) -> str:
    return (PAGES / f"{method}.md").read_text(encoding="utf-8")


def index() -> dict[str, str]:
    """The formula in the index of each method."""
    return dict(ROW.findall((PAGES / "README.md").read_text(encoding="utf-8")))


def test_examples_pages_and_the_index_are_of_the_same_methods() -> None:
    pages = sorted(path.stem for path in PAGES.glob("*.md") if path.name != "README.md")
    assert pages == METHODS
    assert sorted(index()) == METHODS


def test_every_method_has_its_equation_tested() -> None:
    files = Path(__file__).parent.glob("test_equations*.py")
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    tested = set(re.findall(r'assert_formula_is\(\s*"([a-z0-9-]+)"', code))
    assert sorted(tested) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_page_shows_its_example_and_a_run_of_it(method: str) -> None:
    text = page(method)
    assert YAML.findall(text) == [(EXAMPLES / f"{method}.yaml").read_text(encoding="utf-8")]
    command = rf"^\$ arith generate examples/methods/{method}\.yaml .*\n[^$`]+"
    assert re.search(command, text, re.MULTILINE), "no command with its output"
    assert len(text.splitlines()) <= 110


@pytest.mark.parametrize("method", METHODS)
def test_an_example_loads_and_declares_nothing_that_it_does_not_use(method: str) -> None:
    spec = Spec.load(EXAMPLES / f"{method}.yaml")
    assert spec.unused == ()
    assert set(spec.formula().parameter_values()) == set(spec.formula().parameters)


@pytest.mark.parametrize("method", METHODS)
def test_an_example_generates_with_tiny_models_in_place_of_its_own(
    method: str, tiny_deep_llama: str, tiny_classifier: str, tiny_reward: str
) -> None:
    def tiny(operand: Any) -> Any:
        if isinstance(operand, Classifier):
            return replace(operand, model=tiny_classifier)
        return replace(operand, model=tiny_reward if isinstance(operand, RewardModel) else tiny_deep_llama)

    spec = Spec.load(EXAMPLES / f"{method}.yaml")
    operands = {name: tiny(operand) for name, operand in spec.operands.items()}
    options = spec.sampling.model_dump() | {"max_new_tokens": 3}
    engine = Engine(replace(spec, operands=operands).formula())
    results = engine.generate([PROMPT, PROMPT], **options)
    assert [len(result.token_ids) > 0 for result in results] == [True, True]
