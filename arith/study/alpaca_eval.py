"""Answers in the form in which `alpaca_eval --model_outputs` reads them.

Source: Li et al. 2023, "AlpacaEval", github.com/tatsu-lab/alpaca_eval: a JSON list of objects with
`instruction`, `output` and `generator`, of which the first is what it matches references by.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

from arith.errors import SpecError
from arith.study.results import ResultRow


class ModelOutput(TypedDict, total=False):
    """One answer; `dataset` is the part of AlpacaEval's set that the instruction comes from."""

    dataset: str
    instruction: str
    output: str
    generator: str


def model_outputs(rows: Sequence[ResultRow], generator: str) -> list[ModelOutput]:
    """The first sample that there is of each prompt, in the order of the prompts' names: numbers by size,
    those within a text too. Prompts without names stay in the order of their rows.

    Of equal prompts the first one counts: references are matched by the instruction. The field `dataset` of a
    prompt is passed on. Raises `SpecError`, with its place, for a prompt of several messages.
    """
    first: dict[str, ResultRow] = {}
    for row in sorted(rows, key=lambda row: (row.occurrence, row.sample)):
        first.setdefault(row.prompt_key, row)
    found: list[ModelOutput] = []
    for row in sorted(first.values(), key=lambda row: _order(row.prompt_id)):
        one = ModelOutput(instruction=_instruction(row), output=row.text, generator=generator)
        dataset = row.fields.get("dataset")
        found.append(ModelOutput(dataset=dataset, **one) if isinstance(dataset, str) else one)
    return found


def _order(name: str | int | None) -> list[tuple[int, str]]:
    """Sorts `q2` before `q10`, numbers before texts, and leaves what has no name where it is."""
    parts = [] if name is None else re.split(r"([0-9]+)", str(name))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _instruction(row: ResultRow) -> str:
    if isinstance(row.prompt, str):
        return row.prompt
    messages: Sequence[Mapping[str, str]] = row.prompt
    if len(messages) != 1 or messages[0]["role"] != "user":
        message = (
            f"{row.place}: the prompt has {len(messages)} messages, and AlpacaEval knows one of the user's"
        )
        raise SpecError(message, "generate from the instructions themselves")
    return messages[0]["content"]
