"""Running a formula: rows, lanes, backbones, sampling, and the engine that holds them together."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arith.runtime.engine import Engine as Engine
    from arith.runtime.result import Piece as Piece
    from arith.runtime.result import Result as Result
    from arith.runtime.result import Score as Score

# Loaded when first used: who reads a specification needs the options of this package and no engine.
_HOMES = {
    "Engine": "arith.runtime.engine",
    "Piece": "arith.runtime.result",
    "Result": "arith.runtime.result",
    "Score": "arith.runtime.result",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module `arith.runtime` has no attribute `{name}`")
        return getattr(importlib.import_module(_HOMES[name]), name)
