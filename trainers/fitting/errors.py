"""What can go wrong in a fit."""

from arith.errors import ArithError


class FitError(ArithError):
    """A formula's parameters can't be fitted to the data."""
