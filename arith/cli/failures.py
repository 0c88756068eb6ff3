"""How a command ends when it can't do what was asked: one message on standard error, and an exit code."""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from arith.errors import ArithError, SpecError, reason_of
from grammar.errors import FormulaError

P = ParamSpec("P")
BAD_INPUT = 2
INTERRUPTED = 130


def say(text: str) -> None:
    """Print for the person at the terminal: on standard error, so that standard output can be piped."""
    if sys.stderr is not None:  # print would take standard output for one that is closed
        print(text, file=sys.stderr, flush=True)


def put(text: object, *, end: str = "\n") -> None:
    """Print a result on standard output at once. Raises `SpecError` where it can't be written, but for a
    reader who has gone away: `arith generate … | head` ends in silence."""
    if sys.stdout is None:
        raise SpecError("standard output is closed")
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except UnicodeEncodeError as error:
        lacking = error.object[error.start]
        message = f"standard output can't hold {lacking!a}: its encoding is {sys.stdout.encoding}"
        raise SpecError(message, "PYTHONIOENCODING=utf-8 sets another") from None
    except OSError as error:
        drop_output()
        reason = reason_of(error)
        raise SpecError(f"standard output can't be written: {reason}") from None


def drop_output() -> None:
    """Leads standard output nowhere: what is left in its buffer would fail once more when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
