"""Scores by a function of one's own."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arith.errors import SpecError
from arith.spec_operators import imported
from arith.study.results import ResultRow
from arith.study.scoring.scorer import Scored, Scorer


class PythonFunction(Scorer):
    """A function, `package.module:function`, that makes a number of a prompt and a text, or of a `ResultRow`:
    it takes two arguments, or one.

    folder: modules are also looked for there.

    Raises `SpecError` for a function that can't be imported, or takes other arguments.
    """

    def __init__(self, path: str, folder: Path):
        self._path = path
        self._function = _imported(path, folder)
        self._count = _arguments(self._function, path)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The function's source is one of them: numbers of a changed function aren't mixed with others."""
        try:
            source = inspect.getsource(self._function)
        except (OSError, TypeError):  # written in C, say
            source = ""
        return {
            "kind": "python",
            "function": self._path,
            "source": hashlib.sha256(source.encode()).hexdigest(),
        }

    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        """Raises `SpecError`, with the row, where the function fails or gives no number."""
        for place, row in enumerate(rows):
            yield place, Scored(self._number(row))

    def _number(self, row: ResultRow) -> float:
        arguments = (row,) if self._count == 1 else (row.prompt, row.text)
        try:
            value = self._function(*arguments)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SpecError(f"{row.place}: {row}: `{self._path}` failed: {reason}") from error
        try:
            return float(value)
        except (TypeError, ValueError):
            raise SpecError(
                f"{row.place}: {row}: `{self._path}` gave {value!r}, which is no number"
            ) from None


def _imported(path: str, folder: Path) -> Callable[..., Any]:
    module_name, _, name = path.partition(":")
    module = imported(module_name, folder)
    function = getattr(module, name, None)
    if not callable(function):
        raise SpecError(f"there is no function `{name}` in `{module_name}`")
    found: Callable[..., Any] = function
    return found


def _arguments(function: Callable[..., Any], path: str) -> int:
    """How many arguments the function needs: 1, the row, or 2, prompt and text."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise SpecError(f"`{path}` doesn't tell its arguments", "wrap it in a function of yours") from None
    needed = [one for one in parameters if one.kind in kinds and one.default is one.empty]
    if len(needed) not in (1, 2):
        hint = "it takes the prompt and the text, or a row (`arith.study.results.ResultRow`)"
        raise SpecError(f"`{path}` takes {len(needed)} arguments", hint)
    return len(needed)
