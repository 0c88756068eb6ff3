"""How a command ends when it can't do what was asked: one message on standard error, and an exit code."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from arith.errors import ArithError
from grammar.errors import FormulaError

P = ParamSpec("P")
BAD_INPUT = 2
INTERRUPTED = 130


def say(text: str) -> None:
    """Print for the person at the terminal: on standard error, so that standard output can be piped."""
    print(text, file=sys.stderr, flush=True)


def ends_well(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with bad input reported as a message and exit code 2, and Ctrl-C as exit code 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (ArithError, FormulaError) as error:
            say(f"error: {error}")
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            say("stopped")
            raise typer.Exit(INTERRUPTED) from None

    return run
