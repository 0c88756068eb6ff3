"""The command line in this process, and specifications over the tiny models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from arith.cli.app import app

Arith = Callable[..., Result]
Spec = Callable[..., Path]
Sweep = Callable[..., list[object]]
SWEEP = {"h": [0, 0.5, 1], "s": "1 - h"}


@pytest.fixture
def arith() -> Arith:
    """`arith("check", path, stdin="…")` runs the command: exit_code, stdout, stderr. A bug raises."""

    def run(*words: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def spec(tmp_path: Path, tiny_llama: str) -> Spec:
    """`spec(formula, operand={…}, …, params={…})` writes a specification over tiny models: its path."""

    def write(
        formula: str = "base",
        *,
        params: dict[str, float] | None = None,
        sampling: dict[str, object] | None = None,
        **operands: dict[str, object],
    ) -> Path:
        content = {
            "formula": formula,
            "defaults": {"model": tiny_llama, "template": "{prompt}"},
            "operands": operands or {"base": {}},
            "params": params or {},
            "sampling": sampling or {"max_new_tokens": 8},
        }
        path = tmp_path / "spec.yaml"
        path.write_text(json.dumps(content, indent=1))  # JSON is YAML
        return path

    return write


@pytest.fixture
def swept(tmp_path: Path, tiny_llama: str) -> Sweep:
    """`swept(sweep={…}, sampling={…})` writes a specification and prompts: the words of the command."""

    def write(sweep: Any = SWEEP, **further: Any) -> list[object]:
        operands = {"base": {}, "help": {"template": "Q: {prompt}"}, "harm": {"template": "{prompt}?"}}
        content = {
            "formula": "base + h*help + s*harm",
            "defaults": {"model": tiny_llama, "template": "{prompt}"},
            "operands": operands,
            "sampling": {"max_new_tokens": 6, "seed": 3},
            "sweep": sweep,
            **further,
        }
        (tmp_path / "spec.yaml").write_text(json.dumps(content, indent=1))
        (tmp_path / "prompts.txt").write_text("one\ntwo\none\n")
        return ["sweep", tmp_path / "spec.yaml", "--prompts", tmp_path / "prompts.txt"]

    return write


def refused(result: Result, *words: str) -> None:
    """The command ended with 2, wrote nothing to standard output, and its one message holds the words."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
