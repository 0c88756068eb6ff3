"""A YAML file as plain data that still knows the line of every key.

Scalars are read by YAML 1.2's core schema, as editors and other programs do: `1e-3` is a number, and `on`,
`off`, `yes`, `no`, `1:30` and `2024-01-01` are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from arith.characters import stray_surrogate
from arith.errors import SpecError, reason_of

Key = tuple[str | int, ...]
"""The way from the document's root to a value: names in mappings, indices in sequences."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(
    r"[-+]?[0-9]{1,300}|0x[0-9a-fA-F]{1,300}|0o[0-7]{1,300}"
)  # longer ones are out of a float's range
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TEXT = "tag:yaml.org,2002:str"
# What the library itself may give to a value that is written without a tag.
_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "map", "seq", "null", "bool", "int", "float", "timestamp", "merge", "value")
}


@dataclass(frozen=True)
class YamlDocument:
    """The data of one file (`dict`, `list`, text, numbers, booleans, None) and where each part stands: in a
    line, or in `changes` outside the file."""

    source: str
    data: object
    lines: dict[Key, int]
    changes: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """`file:line` of the key, or of the nearest part around it that is written; or its change."""
        while key and key not in self.lines and key not in self.changes:
            key = key[:-1]
        return self.changes.get(key) or f"{self.source}:{self.lines.get(key, 1)}"


def read_yaml(path: Path) -> YamlDocument:
    """Read a file. Raises `SpecError` with the file and the line where it isn't well-formed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: {reason_of(error)}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> YamlDocument:
    """Read text; `source` is what errors call it. Raises `SpecError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpecError(
            f"{source}:{mark.line + 1 if mark else 1}: not well-formed YAML: {error.problem}"
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"{source}:{line}: a character that YAML doesn't allow (U+{ord(text[error.position]):04X})"
        ) from None
    except RecursionError:
        raise SpecError(f"{source}: nested too deeply") from None
    lines: dict[Key, int] = {}
    data = None if root is None else _value(root, (), source, lines, frozenset())
    return YamlDocument(source, data, lines)


def write_yaml(content: object) -> str:
    """Plain data as YAML that `parse_yaml` reads back; texts of several lines are written as blocks."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Text is quoted wherever another reading of it is possible."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        node = super().represent_str(data)
        if "\n" in data:
            node.style = "|"
        elif _scalar(yaml.ScalarNode(_TEXT, data)) != data:
            node.style = '"'
        return node


_Dumper.add_representer(str, _Dumper.represent_str)


def _value(node: yaml.Node, key: Key, source: str, lines: dict[Key, int], around: frozenset[int]) -> object:
    """The node's plain value; notes the lines of what is inside. `around` holds the nodes it stands in."""
    line = node.start_mark.line + 1
    lines.setdefault(key, line)
    if id(node) in around:
        raise SpecError(f"{source}:{line}: an alias stands inside what it refers to")
    around |= {id(node)}
    if node.tag not in _TAGS or (isinstance(node, yaml.ScalarNode) and node.style and node.tag != _TEXT):
        raise SpecError(
            f"{source}:{line}: the tag `{node.tag}` isn't supported", "write the value without a tag"
        )
    if isinstance(node, yaml.ScalarNode):
        stray = stray_surrogate(node.value)
        if stray is not None:
            raise SpecError(f"{source}:{line}: the escape {stray} stands for no character")
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*key, index), source, lines, around) for index, item in enumerate(node.value)]
    mapping: dict[str, object] = {}
    for name, name_line, value in _entries(node, source):
        if name in mapping:
            first = lines[(*key, name)]
            raise SpecError(f"{source}:{name_line}: `{name}` stands twice (first in line {first})")
        lines[(*key, name)] = name_line
        mapping[name] = _value(value, (*key, name), source, lines, around)
    return mapping


def _entries(node: yaml.Node, source: str) -> Iterator[tuple[str, int, yaml.Node]]:
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise SpecError(f"{source}:{line}: a key must be text", "did you mean to quote it?")
        yield name.value, line, value


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style is not None:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
