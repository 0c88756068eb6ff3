"""A row of the data as a source reads it, and what is said of one that it can't read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from arith.errors import SpecError
from arith.operands.prompts import Message

_SHOWN_CHARACTERS = 60


class SkippedRow(Exception):
    """A row that can't be used, though nothing is wrong with the file; says why, as reports count it."""

    def __init__(self, cause: str):
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Row:
    """The values of a row under the source's own names, and the row's place.

    The methods raise `SkippedRow` where the value is null, and `SpecError` with the place where it is of
    another kind than asked for.
    """

    place: str
    values: Mapping[str, object]

    def has(self, column: str) -> bool:
        """Whether there is a value that isn't null; NaN, as which tables of numbers write null, is none."""
        value = self.values.get(column)
        return value is not None and not (isinstance(value, float) and math.isnan(value))

    def text(self, column: str) -> str:
        """The column's text."""
        value = self._value(column)
        if not isinstance(value, str):
            raise self.wrong(column, "must be text")
        return value

    def text_or_messages(self, column: str) -> str | list[Message]:
        """The column's text or list of chat messages."""
        value = self._value(column)
        if not isinstance(value, str | list):
            raise self.wrong(column, "must be text or a list of messages")
        return value if isinstance(value, str) else self.messages(column)

    def messages(self, column: str) -> list[Message]:
        """The column's list of chat messages. Their roles are whatever text they are."""
        value = self._value(column)
        if not isinstance(value, list):
            raise self.wrong(column, "must be a list of messages")
        messages: list[Message] = []
        for number, message in enumerate(value, start=1):
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                raise self.wrong(column, f"message {number} isn't an object with role and content", message)
            if message.get("content") is None:
                raise SkippedRow(f"a message of `{column}` has no content")
            if not isinstance(message["content"], str):
                raise self.wrong(column, f"message {number} needs `content` that is text", message["content"])
            messages.append({"role": message["role"], "content": message["content"]})
        return messages

    def number(self, column: str) -> float:
        """The column's number; text counts as the number that it writes, as all that CSV holds is text."""
        value = self._value(column)
        try:
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise self.wrong(column, "must be a number")

    def wrong(self, column: str, what: str, value: object = None) -> SpecError:
        """The error for a value of the column (`value`, or a part of it) that is not what it must be."""
        shown = repr(self.values[column] if value is None else value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]} …"
        return SpecError(f"{self.place}: `{column}` {what}, not {shown}")

    def _value(self, column: str) -> object:
        if not self.has(column):
            raise SkippedRow(f"`{column}` is null")
        return self.values[column]
