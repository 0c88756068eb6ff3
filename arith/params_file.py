"""Parameter values in a file of their own: a YAML mapping of names to numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from arith.errors import SpecError
from arith.whole_file import write_output
from arith.yaml_document import read_yaml, write_yaml
from grammar.errors import nearest


def read_params(path: Path, known: Sequence[str]) -> dict[str, float]:
    """The values in the file, of some of the `known` parameters.

    Raises `SpecError` with the file and the line: no mapping, a name that isn't known, a value that is no
    finite number, and a file that can't be read.
    """
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise SpecError(f"{path}: a params file maps names to numbers", "such as the line `alpha: 0.5`")
    for name, value in document.data.items():
        place = document.place((name,))
        if name not in known:
            close = nearest(name, known)
            listed = ", ".join(known) or "none"
            raise SpecError(
                f"{place}: the formula has no parameter `{name}`",
                f"did you mean `{close}`?" if close else f"its parameters: {listed}",
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpecError(f"{place}: `{name}` must be a finite number")
    return {name: float(value) for name, value in document.data.items()}


def write_params(path: Path, values: Mapping[str, float]) -> None:
    """Writes such a file, whole or not at all; one that is there is replaced. Raises `SpecError` where it
    can't be written."""
    write_output(path, write_yaml(dict(values)))
