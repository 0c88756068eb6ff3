"""Decoding-time methods as formulas over next-token distributions: `Engine(base + 0.5*arm).generate(…)`."""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arith.errors import (
        ArithError,
        EvaluationError,
        OperandError,
        OptionError,
        PlanError,
        PromptError,
        SpecError,
    )
    from arith.language import Formula
    from arith.language.registry import operator
    from arith.language.values import Dist, Mask, Scalar, Vec
    from arith.operands import LLM, Classifier, RewardModel
    from arith.runtime import Engine
    from arith.spec import Spec
    from grammar.errors import FormulaError

__all__ = [
    "LLM",
    "ArithError",
    "Classifier",
    "Dist",
    "Engine",
    "EvaluationError",
    "Formula",
    "FormulaError",
    "Mask",
    "OperandError",
    "OptionError",
    "PlanError",
    "PromptError",
    "RewardModel",
    "Scalar",
    "Spec",
    "SpecError",
    "Vec",
    "operator",
]
__version__ = "0.1.0"

# Loaded when first used: torch and transformers take seconds, which `arith --help` need not wait for.
_HOMES = {
    "LLM": "arith.operands",
    "Classifier": "arith.operands",
    "RewardModel": "arith.operands",
    "operator": "arith.language.registry",
    **dict.fromkeys(("Dist", "Mask", "Scalar", "Vec"), "arith.language.values"),
    "Engine": "arith.runtime",
    "Formula": "arith.language",
    "FormulaError": "grammar.errors",
    "Spec": "arith.spec",
}


if not TYPE_CHECKING:  # a type checker that saw this would believe in any name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module `arith` has no attribute `{name}`")
        value: object = getattr(importlib.import_module(_HOMES.get(name, "arith.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_grammar() -> None:
    """`grammar` is a common name: another module of that name is refused here, by its path."""
    ours = Path(__file__).resolve().parent.parent / "grammar" / "__init__.py"
    found = importlib.util.find_spec("grammar")
    origin = None if found is None or found.origin is None else Path(found.origin).resolve()
    if origin == ours:
        return
    if origin is None:
        raise ImportError(f"arith needs its own package `grammar`, which is missing from {ours.parent}")
    raise ImportError(
        f"arith needs its own package `grammar` ({ours.parent}), but Python finds {origin} first; "
        "rename that one, or take its folder off the path"
    )


_check_grammar()
