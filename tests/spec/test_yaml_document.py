"""YAML read as YAML 1.2's core schema, with the line of every key."""

from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.yaml_document import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("5.0e-4", 0.0005),
        (".5", 0.5),
        ("-2", -2),
        ("+1.5E2", 150.0),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("base - arm", "base - arm"),
    ],
)
def test_a_scalar_means_what_the_core_schema_says(written: str, value: object) -> None:
    data = parse_yaml(f"key: {written}\n", "f.yaml").data
    assert isinstance(data, dict)
    assert data["key"] == value and type(data["key"]) is type(value)


def test_words_that_yaml_1_1_takes_for_booleans_are_names_of_keys() -> None:
    assert parse_yaml("{on: 1, off: 2, yes: 3, no: 4}", "f").data == {"on": 1, "off": 2, "yes": 3, "no": 4}


def test_every_key_and_item_knows_its_line() -> None:
    document = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - y\nd: |\n  text\n  more\n", "f.yaml")
    lines = {(): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5, ("d",): 6}
    assert document.lines == lines
    assert document.place(("a", "missing", "deeper")) == "f.yaml:1"


def test_an_alias_stands_for_what_it_names() -> None:
    assert parse_yaml("a: &x {m: 1}\nb: *x\n", "f").data == {"a": {"m": 1}, "b": {"m": 1}}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "`a` stands twice (first in line 1)"),
        ("x:\n  a: 1\n  a: 1\n", 3, "`a` stands twice"),
        ("a: 1\nb: [1, 2\n", 3, "not well-formed"),
        ("a: 1\n\tb: 2\n", 2, "not well-formed"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("a: &x [*x]\n", 1, "alias"),
        ("a: 1\n? [k]\n: 2\n", 2, "a key must be text"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "tag"),
        ("a: !!int '3'\n", 1, "tag"),
        ("a: !!set {b, c}\n", 1, "tag"),
        ("a: 1\nb: \x07\n", 2, "U+0007"),
        ('a: 1\nb: "x\\ud800"\n', 2, "the escape \\ud800 stands for no character"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_yaml(text, "f.yaml")
    assert raised.value.message.startswith(f"f.yaml:{line}: ")
    assert words in raised.value.message


def test_deep_nesting_is_refused_and_not_a_stack_overflow() -> None:
    with pytest.raises(SpecError, match="too deeply"):
        parse_yaml("[" * 5000, "f.yaml")


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"a: \xff\n", "not UTF-8"), ("folder", "is a directory")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | str | None, words: str) -> None:
    path = tmp_path / "spec.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(SpecError) as raised:
        read_yaml(path)
    assert str(path) in raised.value.message and words in raised.value.message


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path).data == {"a": 1}
