"""Rewinding: a row whose text a guard rejects goes back to before that, and takes another way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arith.runtime.rewinding.guard import Guard
from arith.runtime.rewinding.row_text import RowText
from arith.runtime.row import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_REWINDS = 16  # of a row, for each token that it may get


@dataclass
class RewindStats:
    """Counts since the last `reset`: how often rows went back, the tokens that were taken back then, and the
    rows that ended because no way on was found."""

    rewinds: int = 0
    tokens: int = 0
    ended: int = 0

    def __str__(self) -> str:
        back = f"{_counted(self.rewinds, 'rewind')} from forbidden text"
        said = f"{back}, {_counted(self.tokens, 'token')} taken back"
        return f"{said}; {_counted(self.ended, 'row')} ended there, with no way on" if self.ended else said

    def reset(self) -> None:
        self.rewinds = self.tokens = self.ended = 0


class Rewinding:
    """What guards reject in the rows of one call.

    A row goes back to before the token in which the rejected span begins; that token is banned there, and
    bans of later steps are forgotten. What comes then is drawn with new random numbers: those that led to
    the span would favour the tokens of it.

    Tokens that can't be taken back any more are settled, and only these are shown while the row is being
    written: those up to the last place but one where nothing was begun that a guard may yet reject. From the
    last such place a row must be able to go back, should bans leave it no token there.
    """

    def __init__(
        self,
        guards: Sequence[Guard],
        tokenizer: "PreTrainedTokenizerBase",
        max_new_tokens: int,
        stats: RewindStats,
    ):
        self._guards = guards
        self._closes = all(guard.closes for guard in guards)
        self._tokenizer = tokenizer
        self._most = MOST_REWINDS * max_new_tokens
        self._stats = stats
        self._texts: dict[Row, RowText] = {}

    def goes_back(self, row: Row) -> bool:
        """Takes account of the row's last token; whether the row went back because of it."""
        text = self._text(row)
        text.push(row.tokens[-1])
        begin = None
        if row.finish_reason is not None:
            begin = self._rejected_at_end(text, text.count)
        elif text.sure(text.count) > text.sure(text.count - 1):
            begin = self._rejected(text.certain, text.sure(text.count - 1), ended=False)
        if begin is None:
            self._settle(row, text)
            return False
        self._take_back(row, text, min(text.token_at(begin), text.count - 1))
        return True

    def without_choice(self, row: Row) -> None:
        """Bans leave no token for the row's next step, so it takes back one more; if that is settled, it
        ends."""
        text = self._text(row)
        if len(row.tokens) > row.settled:
            self._take_back(row, text, text.count - 1)
        else:
            self._give_up(row, text)

    def _text(self, row: Row) -> RowText:
        if row not in self._texts:
            self._texts[row] = RowText(self._tokenizer)
        return self._texts[row]

    def _take_back(self, row: Row, text: RowText, step: int) -> None:
        if step < row.settled:  # a guard rejects what it let stand, and a stream may have shown
            return self._give_up(row, text)
        self._stats.rewinds += 1
        self._stats.tokens += len(row.tokens) - step
        row.go_back(step)
        text.cut(step)
        if text.clean > step:
            text.clean = row.settled
        if row.ending.stop_strings is not None:
            row.ending.stop_strings.restart(row.tokens)
        if row.rewinds >= self._most:
            self._give_up(row, text)

    def _give_up(self, row: Row, text: RowText) -> None:
        """Ends the row, with as much of its text as may stand at an end."""
        while len(row.tokens) > row.settled and self._rejected_at_end(text, text.count) is not None:
            row.shorten(text.count - 1)
            text.cut(text.count - 1)
        row.finish_reason = "forbidden"
        self._stats.ended += 1
        self._settle(row, text)

    def _settle(self, row: Row, text: RowText) -> None:
        """Notes which tokens can't be taken back any more."""
        if row.finish_reason is not None:
            del self._texts[row]
            return
        start = text.sure(text.clean)
        if not self._closes or text.pending(text.count):
            return
        if not any(guard.is_open(text.certain, start) for guard in self._guards):
            row.settled, text.clean = text.clean, text.count

    def _rejected_at_end(self, text: RowText, count: int) -> int | None:
        """Where the span begins that is rejected if the row ends after `count` tokens."""
        return self._rejected(text.whole(count), text.sure(max(0, count - 1)), ended=True)

    def _rejected(self, text: str, seen: int, *, ended: bool) -> int | None:
        """Where the span begins that goes back furthest."""
        begins = [guard.rejects(text, seen, ended) for guard in self._guards]
        return min((begin for begin in begins if begin is not None), default=None)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
