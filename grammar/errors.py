"""The one error of formulas, drawn with the line it is about, and the search for the name that was meant."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grammar.tree import Span

LINE_END = re.compile(r"\r\n?|\n")
WIDEST = 100  # columns of the source line that are shown; a longer line is cut to the part around the span
TAB = "    "


class FormulaError(ValueError):
    """A formula is wrong: `message` says what, `span` where (if it came from text), `hint` how to mend it."""

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.span is not None:
            parts.append(_drawing(self.span))
        if self.hint is not None:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a misspelling of, or None when none is close."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates if candidate != name}
    close = get_close_matches(name.lower(), by_lower_case, n=1)
    return by_lower_case[close[0]] if close else None


def line_number(span: Span) -> int:
    """The number of the line in which the span starts; the first is 1."""
    return 1 + sum(1 for _ in LINE_END.finditer(span.source, 0, span.start))


def _drawing(span: Span) -> str:
    """The line in which the span starts, its number, and carets under the part of the span in that line."""
    ends = [match.end() for match in LINE_END.finditer(span.source, 0, span.start)]
    line_start = ends[-1] if ends else 0
    closing = LINE_END.search(span.source, line_start)
    line = span.source[line_start : closing.start() if closing else len(span.source)]
    start = min(span.start - line_start, len(line))
    end = min(max(span.end - line_start, start), len(line))

    before, after = "", ""
    if _columns(line) > WIDEST:
        first = max(0, min(start - WIDEST // 3, len(line) - WIDEST))
        last = first + WIDEST
        before, after = "..." if first else "", "..." if last < len(line) else ""
        line, start, end = line[first:last], start - first, min(end, last) - first

    number = str(1 + len(ends))
    indent = " " * (len(before) + _columns(line[:start]))
    carets = "^" * max(1, _columns(line[start:end]))
    shown = "".join(map(_visible, line))
    return f"  {number} | {before}{shown}{after}\n  {' ' * len(number)} | {indent}{carets}"


def _visible(character: str) -> str:
    if character == "\t":
        return TAB
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _columns(text: str) -> int:
    """The columns that a terminal takes for the text: two for East Asian wide, none for combining ones."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if character == "\t":
        return len(TAB)
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
