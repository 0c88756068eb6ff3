"""Points of a sweep in words: `h=0.5, s=1`, or `formula=a` of one formula among several."""

from collections.abc import Mapping

Value = float | str


def value_text(value: Value) -> str:
    """A value as tables show it: a number with six digits at most."""
    return value if isinstance(value, str) else f"{value:g}"


def point_text(point: Mapping[str, Value]) -> str:
    """The point as tables show it; of points close to each other the same."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in point.items())


def exact_text(point: Mapping[str, Value]) -> str:
    """The point with as many digits as tell it from all others."""
    return ", ".join(f"{name}={_exact(value)}" for name, value in point.items())


def _exact(value: Value) -> str:
    shown = value_text(value)
    return shown if isinstance(value, str) or float(shown) == value else repr(value)
