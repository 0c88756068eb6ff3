"""Answers in the form in which `alpaca_eval --model_outputs` reads them.

Source: Li et al. 2023, "AlpacaEval", github.com/tatsu-lab/alpaca_eval: a JSON list of objects with
`instruction`, `output` and `generator`, of which the first is what it matches references by.
"""

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
    """The first sample of each prompt, in the order of their numbers where they have some.

    Of equal prompts the first one counts: references are matched by the instruction. The field `dataset` of a
    prompt is passed on. Raises `SpecError`, with its place, for a prompt of several messages.
    """
    first = [row for row in rows if row.sample == 0 and row.occurrence == 0]
    numbered = all(isinstance(row.prompt_id, int) for row in first)
    ordered = sorted(first, key=lambda row: int(row.prompt_id or 0)) if numbered else first
    found: list[ModelOutput] = []
    for row in ordered:
        one = ModelOutput(instruction=_instruction(row), output=row.text, generator=generator)
        dataset = row.fields.get("dataset")
        found.append(ModelOutput(dataset=dataset, **one) if isinstance(dataset, str) else one)
    return found


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
