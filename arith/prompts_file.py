"""Prompts from a file: `.jsonl` with an object a line, or `.txt` with a prompt a line."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from arith.characters import stray_surrogate
from arith.errors import SpecError

Prompt = str | Sequence[Mapping[str, str]] | Mapping[str, object]


@dataclass(frozen=True)
class PromptLine:
    """One prompt and where it came from.

    `prompt` is text or a list of messages, `fields` are the line's further fields, of which templates can use
    those that are text, and `completion` is what `arith score` scores after the prompt.
    """

    place: str
    prompt: str | list[Mapping[str, str]]
    fields: Mapping[str, object] = field(default_factory=dict)
    id: str | int | None = None
    completion: str | None = None

    @property
    def whole(self) -> Prompt:
        """The prompt as the engine takes it: with its fields, where it has some."""
        return {"prompt": self.prompt, **self.fields} if self.fields else self.prompt


def read_prompts(path: Path, *, completions: bool = False) -> list[PromptLine]:
    """The prompts of a file in order, blank lines aside; with `completions` each line has one.

    Raises `SpecError` with the file, and with the line where it concerns one: another suffix, not a file that
    can be read, no prompts, not UTF-8, and a line that isn't a JSON object with `prompt`.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".txt"):
        raise SpecError(
            f"{path}: a prompts file ends in .jsonl or .txt", "one JSON object, or one prompt, a line"
        )
    if completions and suffix == ".txt":
        raise SpecError(
            f"{path}: scoring needs a .jsonl file", 'each line {"prompt": "...", "completion": "..."}'
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    lines = [
        _object_line(text, place, completions) if suffix == ".jsonl" else PromptLine(place, text)
        for place, text in _lines(content, str(path))
    ]
    if not lines:
        raise SpecError(f"{path}: holds no prompts")
    return lines


def read_piped_prompts(stream: TextIO) -> list[PromptLine]:
    """The prompts of standard input, one a line as in a `.txt` file. `SpecError` when there are none."""
    content = stream.buffer.read() if hasattr(stream, "buffer") else stream.read().encode()
    lines = [PromptLine(place, text) for place, text in _lines(content, "standard input")]
    if not lines:
        raise SpecError("no prompts came on standard input", "use --prompt TEXT or --prompts FILE")
    return lines


def _lines(content: bytes, source: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        place = f"{source}:{number}"
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise SpecError(f"{place}: not UTF-8 text (byte {error.start} of the line)") from None
        if text.strip():
            yield place, text


def _object_line(text: str, place: str, completions: bool) -> PromptLine:
    try:
        row = json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_no_number, parse_float=_finite_float
        )
        stray = stray_surrogate(json.dumps(row, ensure_ascii=False))
    except json.JSONDecodeError as error:
        raise SpecError(f"{place}: not JSON: {error.msg.lower()} (column {error.colno})") from None
    except _Refused as refusal:
        raise SpecError(f"{place}: {refusal}") from None
    except ValueError:  # Python reads no whole numbers of more than some thousands of digits
        raise SpecError(f"{place}: a number with too many digits") from None
    except RecursionError:
        raise SpecError(f"{place}: nested too deeply") from None
    if stray is not None:
        raise SpecError(f"{place}: the escape {stray} stands for no character")
    if not isinstance(row, dict):
        raise SpecError(f'{place}: a line must be an object such as {{"prompt": "..."}}')
    if "prompt" not in row:
        raise SpecError(
            f"{place}: the object has no `prompt`", f"its fields are {', '.join(row)}" if row else None
        )
    prompt, name, completion = row.pop("prompt"), row.pop("id", None), None
    if not isinstance(prompt, str | list):
        raise SpecError(f"{place}: `prompt` must be text or a list of messages, not {json.dumps(prompt)}")
    if not (name is None or isinstance(name, str | int)) or isinstance(name, bool):
        raise SpecError(f"{place}: `id` must be text or a whole number, not {json.dumps(name)}")
    if completions:
        completion = row.pop("completion", None)
        if not isinstance(completion, str):
            raise SpecError(f"{place}: needs `completion`, the text to score")
    return PromptLine(place, prompt, row, name, completion)


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
