"""Guards: they reject spans of a row's text, as soon as these are finished."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import regex

from arith.errors import OptionError
from arith.runtime.options import expression_of, is_expression

_ESCAPE_OR_SET = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_BORDERS = {
    r"\b": r"(?:(?<=\w)(?!\w)|(?<!\w)(?=\w))",
    r"\B": r"(?:(?<=\w)(?=\w)|(?<!\w)(?!\w))",
}


class Guard(Protocol):
    """Judges the text that a row has written."""

    def rejects(self, text: str, seen: int, ended: bool) -> int | None:
        """Where the first finished span begins that may not be there (None: there is none).

        Nothing was finished and rejected in the first `seen` characters, when these were all. `ended`: no
        more text follows.
        """
        ...

    @property
    def closes(self) -> bool:
        """Whether there are places before which it lets things stand, whatever follows."""
        ...

    def is_open(self, text: str, start: int) -> bool:
        """Whether more text may finish a span that begins in this one, not before `start`."""
        ...


class Expression:
    """A regular expression. A match is finished when a character stands behind it, or the row has ended:
    till then it may grow."""

    def __init__(self, pattern: regex.Pattern[str]):
        self._pattern = pattern
        self._opening = _opening(pattern)

    @property
    def closes(self) -> bool:
        return self._opening is not None

    def rejects(self, text: str, seen: int, ended: bool) -> int | None:
        return _finished(self._pattern, text, 0, ended)

    def is_open(self, text: str, start: int) -> bool:
        return self._opening is None or any(
            # A match of no characters may hide a longer one.
            match.partial or match.end() in (at, len(text))
            for at in range(start, len(text))
            if (match := self._opening.match(text, at, partial=True)) is not None
        )


class Word:
    """A word, as an expression which is quick to look for: its matches are as long as it is."""

    closes = True

    def __init__(self, word: str):
        self._pattern = expression_of(word)
        self._length = len(word)

    def rejects(self, text: str, seen: int, ended: bool) -> int | None:
        return _finished(self._pattern, text, max(0, seen - self._length), ended)

    def is_open(self, text: str, start: int) -> bool:
        first = max(start, len(text) - self._length)
        match = self._pattern.search(text, first, partial=True)
        return match is not None and match.start() < len(text)


@dataclass(frozen=True)
class Judge:
    """A function of the text and of whether it has ended: None, or where the span begins that it rejects."""

    function: Callable[[str, bool], int | None]
    closes: ClassVar[bool] = False

    def rejects(self, text: str, seen: int, ended: bool) -> int | None:
        begin = self.function(text, ended)
        if begin is None:
            return None
        # At the end itself begins what a text lacks that ends too early.
        whole = isinstance(begin, int) and not isinstance(begin, bool)
        if not whole or not 0 <= begin < len(text) + ended:
            name = getattr(self.function, "__name__", type(self.function).__name__)
            raise OptionError(
                f"forbid: {name} returned {begin!r} for a text of {len(text)} characters",
                "a guard returns None, or the number of characters before the span that it rejects",
            )
        return begin

    def is_open(self, text: str, start: int) -> bool:
        return True


def guards_of(forbid: Sequence[Any]) -> tuple[Guard, ...]:
    """The guards of the entries of `forbid`, which `Sampling` has checked."""
    return tuple(_guard(entry) for entry in forbid)


def _guard(entry: Any) -> Guard:
    if isinstance(entry, re.Pattern) or (isinstance(entry, str) and is_expression(entry)):
        return Expression(expression_of(entry))
    return Word(entry) if isinstance(entry, str) else Judge(entry)


def _finished(pattern: regex.Pattern[str], text: str, start: int, ended: bool) -> int | None:
    """Where the first finished match begins that has any characters."""
    for match in pattern.finditer(text, start):
        if match.start() < match.end() and (ended or match.end() < len(text)):
            return int(match.start())
    return None


def _opening(pattern: regex.Pattern[str]) -> regex.Pattern[str] | None:
    """The pattern in a form whose partial matches tell all beginnings of matches; None where there is none.

    At the end of a text the package takes `\\b`, `\\B` and `$` for decided, and after a lazy quantifier what
    looks behind; where it reads backwards, no part of a match is one.
    """
    source = pattern.pattern
    if pattern.flags & regex.REVERSE or _asks_for_end(source):
        return None
    if re.search(r"[*+?}]\?", source) and re.search(r"\(\?<[=!]|\^", source):
        return None
    return regex.compile(
        _ESCAPE_OR_SET.sub(lambda found: _BORDERS.get(found[0], found[0]), source), pattern.flags
    )


def _asks_for_end(source: str) -> bool:
    """Whether an expression looks for the end of the text elsewhere than at its own end."""
    ends = (r"\Z", r"\z")
    plain = _ESCAPE_OR_SET.sub(lambda found: "$" if found[0] in ends else "_", source)
    return "$" in plain[:-1]
