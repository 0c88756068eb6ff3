"""What is wrong in a YAML document, from what pydantic found: one message with the place, the key and the
likely fix."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from arith.errors import SpecError
from arith.runtime.options import in_words
from arith.yaml_document import Key, YamlDocument
from grammar.errors import nearest

Keys = TypeVar("Keys", bound=BaseModel)
Known = Callable[[Key], Iterable[str]]
"""Tells which keys there are beside a key, given by pydantic's location of it."""


def validated(
    keys: type[Keys],
    document: YamlDocument,
    *,
    noun: str,
    beginning: str,
    kinds: Collection[str],
    known: Known,
) -> Keys:
    """The document's data as these keys; `noun` is what the document is called, `beginning` its first line.

    `kinds` are what a key such as `kind` or `name` may be. Raises `SpecError` for the first thing that is
    wrong.
    """
    if not isinstance(document.data, dict):
        message = f"{document.place(())}: a {noun} is a mapping of keys to values"
        raise SpecError(message, f"it begins, say, with the line `{beginning}`")
    try:
        return keys.model_validate(document.data)
    except ValidationError as invalid:
        raise refusal(invalid, document, kinds, known) from None


def refusal(
    invalid: ValidationError,
    document: YamlDocument,
    kinds: Collection[str],
    known: Known,
    around: Key = (),
) -> SpecError:
    """The first of the errors in the document, in its words; `around` is the place of what was validated."""
    errors = [(_key(error, document.data, around), error) for error in invalid.errors()]
    key, first = min(errors, key=lambda one: document.lines.get(one[0], 0))
    if first["type"] == "missing":  # a key that is misspelt is also unknown, which tells more
        beside = (one for one in errors if one[0][:-1] == key[:-1])
        key, first = next((one for one in beside if one[1]["type"] == "extra_forbidden"), (key, first))
    message, hint = _explained(first, key, kinds, known)
    return SpecError(f"{document.place(key)}: {message}", hint)


def _key(error: Any, data: Any, around: Key) -> Key:
    """The place of a pydantic error in the document's data: its location, but for what pydantic puts between,
    such as the kind that it took a mapping for, and a last `[key]`."""
    location = (*around, *error["loc"])
    found: list[str | int] = []
    for number, part in enumerate(location, start=1):
        inside = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if part in inside:
            data = data[part]
        elif error["type"] != "missing" or number < len(location):
            continue
        found.append(part)
    return tuple(found)


def _explained(error: Any, key: Key, kinds: Collection[str], known: Known) -> tuple[str, str | None]:
    """What is wrong in words of the file, and the likely fix."""
    kind, value = error["type"], error["input"]
    dotted = ".".join(map(str, key))
    if kind == "extra_forbidden":
        names = list(known(error["loc"]))
        close = nearest(str(key[-1]), names)
        return f"unknown key `{dotted}`", f"did you mean `{close}`?" if close else f"keys: {', '.join(names)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = error["ctx"]["discriminator"].strip("'").removesuffix("()").removeprefix("_")
        if kind == "union_tag_not_found":
            return f"the key `{dotted}.{tag}` is missing", f"it is one of {', '.join(kinds)}"
        return f"`{dotted}.{tag}` must be one of {', '.join(kinds)} (it is {shown(value[tag])})", None
    if kind == "string_pattern_mismatch" and key[0] == "operators":
        return f"`{value}` is no operator of one's own", "write it as package.module:function"
    if kind == "missing":
        return f"the key `{dotted}` is missing", None
    if error["loc"][-1:] == ("[key]",) or (kind == "string_pattern_mismatch" and value == key[-1]):
        return f"`{dotted}`: a name is letters, digits and underscores, and doesn't start with a digit", None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"`{dotted}` must be a mapping of keys to values, not {shown(value)}", None
    if kind == "string_type":
        scalar = isinstance(value, int | float)
        return f"`{dotted}` must be text, not {shown(value)}", "put it in quotes" if scalar else None
    if kind == "string_too_short":
        return f"`{dotted}` is empty", None
    subject = f"`{dotted}`" if key else "the file"
    told = "" if isinstance(value, dict) else f" (it is {shown(value)})"
    return f"{subject} {in_words(error)}{told}", None


def shown(value: object) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)
