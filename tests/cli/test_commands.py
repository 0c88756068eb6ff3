"""The commands that run no model: check, operators, schema."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arith.language.operators import REGISTRY
from tests.cli.conftest import Arith, Spec, refused

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_passes_check_with_no_network(arith: Arith, path: Path) -> None:
    result = arith("check", path)
    assert result.exit_code == 0, result.stderr


def test_check_tells_that_a_model_is_not_on_this_machine(arith: Arith, spec: Spec) -> None:
    result = arith("check", spec(base={"model": "no-such-org/no-such-model"}))
    assert result.exit_code == 0, result.stderr
    assert "not on this machine" in result.stdout and "no-such-org/no-such-model" in result.stdout


def test_check_tells_the_lanes_of_each_backbone(arith: Arith, spec: Spec, tiny_llama_other: str) -> None:
    path = spec("a - b + alpha*c", a={}, b={"template": "Q: {prompt}"}, c={"model": tiny_llama_other})
    result = arith("check", path)
    assert result.exit_code == 0, result.stderr
    assert "2 lanes" in result.stdout and "1 lane" in result.stdout and "alpha" in result.stdout


def test_check_tells_what_is_declared_in_vain_and_what_is_still_open(arith: Arith, spec: Spec) -> None:
    result = arith("check", spec("a + alpha*a", a={}, b={}, params={"beta": 1.0}))
    assert result.exit_code == 0, result.stderr
    assert "not used by the formula: b" in result.stdout and "not used by the formula: beta" in result.stdout
    assert "parameter alpha: to be given" in result.stdout


def test_check_reads_no_weights(spec: Spec, smollm: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "arith", "check"]
    path = spec(base={"model": smollm})
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run([*command, str(path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MiB" in done.stdout
    assert not list(cache.rglob("*.safetensors"))


def test_operators_lists_each_name_of_the_registry(arith: Arith) -> None:
    listed = arith("operators").stdout
    assert all(any(line.split()[:1] == [name] for line in listed.splitlines()) for name in REGISTRY)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_an_operator_is_told_with_its_signature_and_example(arith: Arith, name: str) -> None:
    told = arith("operators", name).stdout
    assert REGISTRY[name].signature in told and REGISTRY[name].example in told


def test_schema_is_one_json_document_that_names_every_key(arith: Arith) -> None:
    schema = json.loads(arith("schema").stdout)
    assert set(schema["properties"]) == {
        "formula",
        "operands",
        "defaults",
        "params",
        "operators",
        "operator_folders",
        "sampling",
        "sweep",
        "speculate",
        "compile",
        "versions",
        "weights",
    }
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("further", "fits"),
    [
        ({"formula": "base"}, True),
        ({"sweep": {"formula": {"a": "base"}}}, True),
        ({}, False),
        ({"formula": None}, False),
        ({"sweep": {"h": [0, 1]}}, False),
        ({"formula": "base + h*base", "sweep": {"h": [0, 1]}}, True),
    ],
)
def test_the_schema_wants_a_formula_or_formulas_to_compare(
    arith: Arith, tmp_path: Path, further: dict[str, object], fits: bool
) -> None:
    """As `arith check` does."""
    jsonschema = pytest.importorskip("jsonschema")
    content = {"operands": {"base": {"model": "org/base"}}, **further}
    schema = json.loads(arith("schema").stdout)
    assert jsonschema.Draft202012Validator(schema).is_valid(content) is fits
    (tmp_path / "spec.yaml").write_text(json.dumps(content))
    if not fits:
        refused(arith("check", tmp_path / "spec.yaml"), "the key `formula` is missing")


def test_a_word_that_compile_does_not_know_is_refused(arith: Arith, spec: Spec) -> None:
    for command in ("generate", "bench"):
        result = arith(command, spec(base={}), "--compile", "maybe")
        refused(result, "compile is 'maybe': it has to be one of auto, on, off")
