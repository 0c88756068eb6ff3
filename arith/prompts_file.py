"""Prompts from a file: `.jsonl` with an object a line, or `.txt` with a prompt a line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from arith.errors import SpecError, reason_of
from arith.json_lines import strict_json, text_lines

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
        raise SpecError(f"{path}: {reason_of(error)}") from None
    lines = [
        _object_line(text, place, completions) if suffix == ".jsonl" else PromptLine(place, text)
        for place, text in text_lines(content.split(b"\n"), str(path))
    ]
    if not lines:
        raise SpecError(f"{path}: holds no prompts")
    return lines


def read_piped_prompts(stream: TextIO) -> list[PromptLine]:
    """The prompts of standard input, one a line as in a `.txt` file. `SpecError` when there are none."""
    content = stream.buffer.read() if hasattr(stream, "buffer") else stream.read().encode()
    lines = [PromptLine(place, text) for place, text in text_lines(content.split(b"\n"), "standard input")]
    if not lines:
        raise SpecError("no prompts came on standard input", "use --prompt TEXT or --prompts FILE")
    return lines


def _object_line(text: str, place: str, completions: bool) -> PromptLine:
    row = strict_json(text, place)
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
