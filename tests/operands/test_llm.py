"""Declarations: what makes two operands the same, and what is refused before anything is loaded."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from arith.errors import OperandError
from arith.operands import LLM

CHANGES: dict[str, Any] = {
    "model": "org/other",
    "adapter": "org/adapter",
    "revision": "v2",
    "system": "",
    "template": "Q: {prompt}",
    "dtype": "bfloat16",
    "quantization": "4bit",
    "device_map": "auto",
    "vocab": "strict",
}


@pytest.mark.parametrize("field", CHANGES)
def test_operands_are_equal_only_if_every_field_is(field: str) -> None:
    plain, changed = LLM("org/name"), LLM(**({"model": "org/name"} | {field: CHANGES[field]}))
    assert plain != changed
    assert plain == LLM("org/name")
    assert hash(plain) == hash(LLM("org/name"))


def test_system_and_adapter_do_not_change_the_weights() -> None:
    variants = [LLM("org/name"), LLM("org/name", adapter="a/b", system="s"), LLM("org/name", template="raw")]
    assert len({operand.weights for operand in variants}) == 1


def test_two_spellings_of_one_folder_share_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    spellings = ["model", "./model/", "~/model", str(tmp_path / "model")]
    assert {LLM(spelling).weights.model for spelling in spellings} == {str((tmp_path / "model").resolve())}


def test_a_torch_dtype_is_stored_by_its_name() -> None:
    operand = LLM("org/name", dtype=torch.bfloat16)
    assert operand == LLM("org/name", dtype="bfloat16")
    assert operand.weights.dtype == "bfloat16"


def test_a_path_object_is_stored_as_text(tmp_path: Path) -> None:
    path: Any = tmp_path
    assert LLM(path) == LLM(str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": 3}, "`model` must be text"),
        ({"model": "  "}, "`model` is empty"),
        ({"adapter": ""}, "`adapter` is empty"),
        ({"system": 1}, "`system` must be text"),
        ({"system": Path("a.txt")}, "`system` must be text"),
        ({"template": torch.float32}, "`template` must be text"),
        ({"system": "a\ud800"}, "`system` holds `\\ud800`, which stands for no character"),
        ({"vocab": None}, "`vocab` must be text"),
        ({"vocab": "largest"}, "common, strict"),
        ({"dtype": "int8"}, "float32, bfloat16, float16, float64"),
        ({"dtype": torch.int8}, "`dtype` is 'int8'"),
        ({"quantization": "3bit"}, "4bit, 8bit"),
        ({"template": "no place"}, "has no {prompt}"),
        ({"template": ""}, "has no {prompt}"),
        ({"template": "{system} {prompt}"}, "`system` isn't given"),
        ({"template": "raw", "system": "s"}, "`raw` has no place for it"),
        ({"template": "{prompt}", "system": "s"}, "has no {system}"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_field(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(OperandError) as refusal:
        LLM(**({"model": "org/name"} | fields))
    assert message in str(refusal.value)


def test_an_operand_of_another_process_is_the_same_key() -> None:
    """Texts hash differently in each process, and an operand keeps its hash."""
    operand = LLM("m", system="s")
    assert hash(operand) == hash(LLM("m", system="s")) == hash(copy.copy(operand))
    code = (
        "import pickle, sys\n"
        "from arith import LLM\n"
        "sent = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "assert {sent: 7}[LLM('m', system='s')] == 7\n"
    )
    sent = pickle.dumps(operand).hex()
    subprocess.run([sys.executable, "-c", code, sent], check=True, env={**os.environ, "PYTHONHASHSEED": "77"})
