"""Files of parameter values: what is written is read back, and what is wrong is named by its line."""

import math
from pathlib import Path

import pytest

from arith import SpecError
from arith.params_file import read_params, write_params

VALUES = {"alpha": 0.1 + 0.2, "beta": -1e-300, "gamma": 3.0, "delta": 1e22, "on": -0.0}


def test_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("an older file")
    write_params(path, VALUES)
    found = read_params(path, [*VALUES, "unused"])
    assert [(name, value.hex()) for name, value in found.items()] == [
        (name, value.hex()) for name, value in VALUES.items()
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_whole_numbers_are_numbers_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("{alpha: 2, beta: 1e-3}")
    assert read_params(path, ["alpha", "beta"]) == {"alpha": 2.0, "beta": 0.001}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("alpha: 1\nalhpa: 2\n", 2, ["no parameter `alhpa`", "did you mean `alpha`"]),
        ("alpha: 1\nother: 2\n", 2, ["no parameter `other`", "its parameters: alpha, beta"]),
        ("alpha: 1\nbeta: high\n", 2, ["`beta` must be a finite number"]),
        ("alpha: .inf\n", 1, ["`alpha` must be a finite number"]),
        ("alpha: true\n", 1, ["`alpha` must be a finite number"]),
        ("alpha: '1'\n", 1, ["`alpha` must be a finite number"]),
        (f"alpha: {10**310}\n", 1, ["`alpha` must be a finite number"]),
        ("alpha: 1\nalpha: 2\n", 2, ["stands twice"]),
        ("alpha: [1\n", 2, ["YAML"]),
    ],
)
def test_a_wrong_name_or_value_is_named_by_its_line(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_params(path, ["alpha", "beta"])
    for word in (f"{path}:{line}: ", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "alpha\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match="maps names to numbers"):
        read_params(path, ["alpha"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nowhere"):
        read_params(tmp_path / "nowhere.yaml", ["alpha"])
    with pytest.raises(SpecError, match=r"nowhere.*can't be written"):
        write_params(tmp_path / "nowhere" / "params.yaml", {"alpha": math.pi})
