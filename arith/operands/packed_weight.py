"""The weights of a layer that keeps them in another form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class PackedWeight(Tensor):
    """Stands for the weights of a packed layer where a model's code looks at them.

    Most look at the dtype, in every step; the numbers are unpacked for whatever asks for these.
    """

    _unpack: Callable[[], Tensor]

    @staticmethod
    def __new__(
        cls, unpack: Callable[[], Tensor], shape: tuple[int, int], dtype: torch.dtype
    ) -> "PackedWeight":
        """`unpack` gives the weights, of this shape and dtype, on the CPU."""
        made: PackedWeight = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        made._unpack = unpack
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        arguments, named = tree_map_only(PackedWeight, _numbers, (args, kwargs or {}))
        return operation(*arguments, **named)


def _numbers(weight: PackedWeight) -> Tensor:
    with torch.inference_mode(weight.is_inference()):  # views of one kind can't be made of the other
        return weight._unpack()
