"""Several processes of one run: what the first one does for all."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from accelerate.utils import broadcast_object_list

from arith.errors import ArithError

Value = TypeVar("Value")


def by_the_first(index: int, do: Callable[[], Value]) -> Value:
    """What `do` returns in process 0, in all of them. It must be picklable; an `ArithError` there is raised
    in all."""
    found: list[Any] = [None, None]
    if index == 0:
        try:
            found[0] = do()
        except ArithError as error:
            found[1] = error
    broadcast_object_list(found)
    value, trouble = found
    if trouble is not None:
        raise trouble
    return cast(Value, value)
