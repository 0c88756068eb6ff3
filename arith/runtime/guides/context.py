"""What a guide is told of a row."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from arith.operands.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Context:
    """A row at one of its steps. It holds what it is given as it is: nothing is copied.

    row: the same object at all steps of a row, whose prompt never changes.
    tokens: generated so far, ids of the formula's first operand.
    place: how an error names the row.
    """

    row: Hashable
    prompt: Prompt
    tokens: Sequence[int]
    place: str
