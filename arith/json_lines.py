"""Lines of a file with their places, and JSON read strictly: what other programs refuse is refused too."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from arith.characters import stray_surrogate
from arith.errors import SpecError, reason_of


def text_lines(lines: Iterable[bytes], source: str) -> Iterator[tuple[str, str]]:
    """The place (`source:number`) and the text of each line, blank lines and a BOM aside.

    Raises `SpecError` with the place of a line that isn't UTF-8.
    """
    for number, line in enumerate(lines, start=1):
        place = f"{source}:{number}"
        try:
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            raise SpecError(f"{place}: not UTF-8 text (byte {error.start} of the line)") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if text.strip():
            yield place, text


def appended_objects(path: Path, noun: str) -> list[tuple[str, dict[str, object]]]:
    """The place and the object of each line of a file that rows are appended to; `noun` is what a row is
    called.

    A last line that is cut off is left out: it is still being written, or was when its writer ended. Raises
    `SpecError` for a file that can't be read, one without a whole row, and for any other line that holds no
    object.
    """
    try:
        *whole, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SpecError(f"{path}: {reason_of(error)}") from None
    if tail and not _cut_off(tail):
        whole.append(tail)
    found = []
    for place, text in text_lines(whole, str(path)):
        value = strict_json(text, place)
        if not isinstance(value, dict):
            raise SpecError(f"{place}: not a {noun}: a line must be an object")
        found.append((place, value))
    if not found:
        raise SpecError(f"{path}: holds no {noun}")
    return found


def _cut_off(tail: bytes) -> bool:
    """Whether this is the beginning of an object."""
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        return tail.startswith(b"{")
    return False


def strict_json(text: str, place: str) -> object:
    """The value that a JSON text stands for.

    Raises `SpecError`, led by `place`, for what isn't JSON, a key that stands twice in one object, numbers
    that are no finite float, and escapes that stand for no character.
    """
    try:
        value: object = json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_no_number, parse_float=_finite_float
        )
        # Without an escape in it, text that came from UTF-8 has no stray surrogates.
        stray = stray_surrogate(json.dumps(value, ensure_ascii=False)) if "\\u" in text else None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise SpecError(f"{place}: not JSON: {error.msg.lower()} ({line}column {error.colno})") from None
    except _Refused as refusal:
        raise SpecError(f"{place}: {refusal}") from None
    except ValueError:  # Python reads no whole numbers of more than some thousands of digits
        raise SpecError(f"{place}: a number with too many digits") from None
    except RecursionError:
        raise SpecError(f"{place}: nested too deeply") from None
    if stray is not None:
        raise SpecError(f"{place}: the escape {stray} stands for no character")
    return value


class _Refused(Exception):
    """JSON that Python reads and this program doesn't; says why."""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"`{key}` stands twice")
        found[key] = value
    return found


def _no_number(word: str) -> float:
    raise _Refused(f"not JSON: {word} is no number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Refused(f"the number {digits} is too large")
    return number
