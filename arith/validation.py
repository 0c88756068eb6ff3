"""What is wrong in a YAML document, from what pydantic found: one message with the place, the key and the
likely fix."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from pydantic import ValidationError

from arith.errors import SpecError
from arith.runtime.options import in_words
from arith.yaml_document import Key, YamlDocument
from grammar.errors import nearest

Kinds = Collection[str]
"""What a key such as `kind` or `name` may be; pydantic marks there which of them it took a mapping for."""


def refusal(
    invalid: ValidationError,
    document: YamlDocument,
    kinds: Kinds,
    known: Callable[[Key], Iterable[str]],
    around: Key = (),
) -> SpecError:
    """The first of the errors in the document, in its words. `known` tells which keys there are beside a key,
    given by pydantic's location of it; `around` is the place of what was validated."""
    first = min(invalid.errors(), key=lambda error: document.lines.get((*around, *_key(error, kinds)), 0))
    key = (*around, *_key(first, kinds))
    message, hint = _explained(first, key, kinds, known)
    return SpecError(f"{document.place(key)}: {message}", hint)


def _key(error: Any, kinds: Kinds) -> Key:
    """The place of a pydantic error in the document; pydantic marks an error in a key by a last `[key]`."""
    location: Key = error["loc"]
    unmarked = tuple(
        part for number, part in enumerate(location) if number not in (1, 2) or part not in kinds
    )
    return unmarked[:-1] if unmarked and unmarked[-1] == "[key]" else unmarked


def _explained(
    error: Any, key: Key, kinds: Kinds, known: Callable[[Key], Iterable[str]]
) -> tuple[str, str | None]:
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
    if error["loc"][-1:] == ("[key]",):
        return f"`{dotted}`: a name is letters, digits and underscores, and doesn't start with a digit", None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"`{dotted}` must be a mapping of keys to values, not {shown(value)}", None
    if kind == "string_type":
        scalar = isinstance(value, int | float)
        return f"`{dotted}` must be text, not {shown(value)}", "put it in quotes" if scalar else None
    if kind == "string_too_short":
        return f"`{dotted}` is empty", None
    return f"`{dotted}` {in_words(error)} (it is {shown(value)})", None


def shown(value: object) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)
