"""`arith soup`: its words, and what it says."""

from pathlib import Path

import pytest

from tests.cli.conftest import Arith, refused


def test_a_soup_is_written_and_told(arith: Arith, lora_a: str, lora_b: str, tmp_path: Path) -> None:
    out = tmp_path / "soup"
    result = arith("soup", f"{lora_a}=0.25", f"{lora_b}=1e-1", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}: 0.25*{lora_a} + 0.1*{lora_b}\n"
    assert "`template`" in result.stderr  # nothing tells the prompt format of these adapters
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    refused(arith("soup", f"{lora_a}=0.25", f"{lora_b}=1", "--out", out), "is there already")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b=1"], "a: must be ADAPTER=WEIGHT"),
        (["=1", "b=1"], "=1: must be ADAPTER=WEIGHT"),
        (["a=x", "b=1"], "a=x: `x` isn't a number"),
        (["a=1_0", "b=1"], "`1_0` isn't a number"),
        (["a=1", "a=2"], "a=2: a is given twice"),
        (["a=1"], "at least two adapters"),
        (["a=inf", "b=1"], "isn't finite"),
    ],
)
def test_weights_that_are_none_are_refused(
    arith: Arith, tmp_path: Path, words: list[str], message: str
) -> None:
    refused(arith("soup", *words, "--out", tmp_path / "soup"), message)
    assert not (tmp_path / "soup").exists()
