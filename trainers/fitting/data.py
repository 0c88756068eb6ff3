"""The texts of a fit, from a file or from Python: each a prompt with what follows it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from arith.errors import OptionError, SpecError
from arith.prompts_file import PromptLine, read_prompts
from trainers.fitting.objective import OBJECTIVES, Objective

Rows = Iterable[Mapping[str, object]]


@dataclass(frozen=True)
class FitData:
    """An objective, and a line for each of its texts, which is the line's `completion`; those of one line of
    data stand next to each other."""

    objective: Objective
    lines: Sequence[PromptLine]


def read_data(data: str | Path | Rows, objective: str | None = None) -> FitData:
    """The texts of a `.jsonl` file or of mappings: `prompt` with `completion` (likelihood), or with `chosen`
    and `rejected` (preference). The first row's columns tell the objective, where it isn't given.

    Raises `SpecError` with the place of a row that lacks a column, and what `read_prompts` raises;
    `OptionError` for an objective that there isn't, for columns that fit two, and for data that are no rows.
    """
    if objective is not None and objective not in OBJECTIVES:
        raise OptionError(f"there is no objective `{objective}`", f"there are: {', '.join(OBJECTIVES)}")
    if isinstance(data, str | Path):
        rows = read_prompts(Path(data))
    elif isinstance(data, Mapping | bytes) or not isinstance(data, Iterable):
        raise OptionError(f"the data are rows or the path of a file, not {type(data).__name__}")
    else:
        rows = _lines(data)
    chosen = _told_by(rows[0]) if objective is None else OBJECTIVES[objective]
    return FitData(chosen, [text for row in rows for text in _texts(row, chosen)])


def _lines(rows: Rows) -> list[PromptLine]:
    lines = []
    for number, row in enumerate(rows, start=1):
        place = f"row {number}"
        if not isinstance(row, Mapping):
            raise SpecError(f"{place}: must be a mapping of columns to values, not {row!r}")
        prompt = row.get("prompt")
        if not isinstance(prompt, str | list):
            raise SpecError(f"{place}: needs `prompt`, text or a list of messages")
        lines.append(PromptLine(place, prompt, {name: row[name] for name in row if name != "prompt"}))
    if not lines:
        raise SpecError("the data hold no rows")
    return lines


def _told_by(row: PromptLine) -> Objective:
    fitting = [one for one in OBJECTIVES.values() if set(one.columns) <= set(row.fields)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and for ".join(one.name for one in fitting)
        raise OptionError(f"{row.place}: the columns are those for {names}", "say which objective is meant")
    raise SpecError(
        f"{row.place}: needs `prompt` and `completion`, or `prompt`, `chosen` and `rejected`",
        f"its fields are {', '.join(['prompt', *row.fields])}",
    )


def _texts(row: PromptLine, objective: Objective) -> list[PromptLine]:
    """The line of each text of a row; a template may use the row's other fields."""
    others = {name: value for name, value in row.fields.items() if name not in objective.columns}
    texts = []
    for column in objective.columns:
        text = _text(row.fields.get(column))
        if text is None:
            raise SpecError(f"{row.place}: needs `{column}`, text or a list of one message of the assistant")
        place = row.place if len(objective.columns) == 1 else f"{row.place}, {column}"
        texts.append(replace(row, place=place, fields=others, completion=text))
    return texts


def _text(answer: object) -> str | None:
    """The text of an answer, which is also a list of one message of the assistant; None for anything else."""
    match answer:
        case str(text) | [{"role": "assistant", "content": str(text)}]:
            return text
    return None
