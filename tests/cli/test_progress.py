"""The progress bar of many rows, as a terminal shows it."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from arith.cli import progress
from arith.cli.progress import RowProgress


def test_rows_done_tokens_a_second_and_the_time_left_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten tokens in two seconds. How long the others will take isn't known after one row."""
    shown = io.StringIO()
    monkeypatch.setattr(
        progress,
        "Console",
        lambda **_: Console(file=shown, force_terminal=True, width=120, color_system=None),
    )
    clock = iter([0.0, 2.0, 2.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with RowProgress(7, done=3) as bar:
        bar.advance(10)
    lines = re.split(r"[\r\n]", shown.getvalue())
    last = [line for line in lines if "rows" in line][-1]
    assert "4/7" in last and "5.0 tokens/s" in last
    assert re.search(r"tokens/s (\d|-):(\d\d|--):(\d\d|--)", last)
    assert bar.summary() == "1 row, 10 tokens, 5.0 tokens/s"


def test_without_a_terminal_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown))
    with RowProgress(2) as bar:
        bar.advance(1)
    assert shown.getvalue() == ""
