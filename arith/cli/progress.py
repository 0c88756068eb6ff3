"""The progress bar of many rows, on standard error."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from arith.cli.failures import say

if TYPE_CHECKING:
    from arith.runtime import Engine


class RowProgress:
    """Rows done of `total`, tokens a second and the time left; `summary` tells them in words at the end.

    `noun` is what a row is called; `rows` counts those that were done now.
    """

    def __init__(self, total: int, done: int = 0, noun: str = "row"):
        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"{noun}s", total=total, completed=done, rate="")
        self._start = time.perf_counter()
        self._noun = noun
        self.rows = 0
        self._tokens = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, tokens: int) -> None:
        """One row more is done, which took `tokens`."""
        self.rows += 1
        self._tokens += tokens
        self._bar.update(self._task, advance=1, rate=f"{self._rate():.1f} tokens/s")

    def summary(self) -> str:
        """Rows, tokens and tokens a second so far."""
        rows = f"{self.rows} {self._noun}{'' if self.rows == 1 else 's'}"
        return f"{rows}, {self._tokens} tokens, {self._rate():.1f} tokens/s"

    def _rate(self) -> float:
        return self._tokens / max(time.perf_counter() - self._start, 1e-9)


def say_how_it_went(engine: "Engine") -> None:
    """What a generation met with on its way: want of memory, drafts, forbidden text."""
    if engine.stats.lowered_to is not None:
        say(f"memory ran out: the run went on with {engine.stats.lowered_to} rows at once")
    if engine.stats.drafted:
        say(str(engine.stats.speculation))
    if engine.stats.rewinds:
        say(str(engine.stats.rewinding))
