"""From preference data to operands: what a formula names is trained here."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.fitting import Fit, FitError, fit
    from trainers.loop.errors import TrainingError
    from trainers.pairs import contrast, contrast_pairs, with_system
    from trainers.recipe import Recipe
    from trainers.run import train

__all__ = [
    "Fit",
    "FitError",
    "Recipe",
    "TrainingError",
    "contrast",
    "contrast_pairs",
    "fit",
    "train",
    "with_system",
]

# Loaded when first used, because they load torch and transformers.
_HOMES = {
    "Recipe": "trainers.recipe",
    "train": "trainers.run",
    "TrainingError": "trainers.loop.errors",
    **dict.fromkeys(("Fit", "FitError", "fit"), "trainers.fitting"),
    **dict.fromkeys(("contrast", "contrast_pairs", "with_system"), "trainers.pairs"),
}

if not TYPE_CHECKING:  # a type checker that saw this would believe in any name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module `trainers` has no attribute `{name}`")
        return getattr(importlib.import_module(_HOMES[name]), name)
