"""The parameters of a formula, fitted to data by gradient; its operands stay as they are."""

from trainers.fitting.errors import FitError
from trainers.fitting.fit import fit
from trainers.fitting.result import Fit

__all__ = ["Fit", "FitError", "fit"]
