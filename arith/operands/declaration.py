"""What the declarations of operands have in common: their fields are text, and say what they may be."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from arith.characters import stray_surrogate
from arith.errors import OperandError

_PATHS = ("model", "adapter")
DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_texts(declaration: Any, required: Sequence[str], optional: Sequence[str]) -> None:
    """Check these fields of a frozen dataclass: text, the optional ones None as well.

    Paths and torch dtypes are stored by their names. Raises `OperandError` naming the field.
    """
    for name in (*required, *optional):
        value = getattr(declaration, name)
        if name in _PATHS and isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif name == "dtype" and isinstance(value, torch.dtype):
            value = str(value).removeprefix("torch.")
        if not isinstance(value, str) and (name in required or value is not None):
            raise OperandError(f"operand: `{name}` must be text, not {value!r}")
        if value is not None and (stray := stray_surrogate(value)) is not None:
            raise OperandError(f"operand: `{name}` holds `{stray}`, which stands for no character")
        object.__setattr__(declaration, name, value)


def check_filled(declaration: Any, names: Sequence[str]) -> None:
    """Raises `OperandError` for a field that is text without a word in it."""
    for name in names:
        value = getattr(declaration, name)
        if isinstance(value, str) and not value.strip():
            raise OperandError(f"operand: `{name}` is empty")


def check_choice(declaration: Any, name: str, allowed: Sequence[str]) -> None:
    """Raises `OperandError` for a value that is neither None nor one of those allowed."""
    value = getattr(declaration, name)
    if value is not None and value not in allowed:
        raise OperandError(f"operand: `{name}` is {value!r}", f"it may be {', '.join(allowed)}")
