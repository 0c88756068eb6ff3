"""Flags that name a point of a sweep."""

from collections.abc import Iterable

from arith.cli.flags import number_in
from arith.errors import OptionError


def point_of(flag: str, assignments: Iterable[str] | None) -> dict[str, float | str] | None:
    """The values that `NAME=VALUE`, repeated, gives: numbers, or texts where they are none; None without any.

    Raises `OptionError` for an assignment that is none, or a name that is given twice.
    """
    point: dict[str, float | str] = {}
    for assignment in assignments or ():
        name, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or not name or not value:
            raise OptionError(f"{flag} {assignment}: must be NAME=VALUE", f"{flag} h=0.5, say")
        if name in point:
            raise OptionError(f"{flag} {assignment}: `{name}` is given twice")
        try:
            point[name] = number_in(f"{flag} {assignment}", value)
        except OptionError:  # the name of a formula, say
            point[name] = value
    return point or None
