"""Rotary position embeddings in three operations for queries and three for keys, where the models' code takes
eight for each."""

import inspect
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.rounding import same

_NAME = "apply_rotary_pos_emb"
_PARAMETERS = ["q", "k", "cos", "sin", "unsqueeze_dim"]


class Rotary:
    """Turns queries and keys by their positions (RoPE, Su et al. 2021), the halves of a head being the two
    coordinates. All layers of a forward are given the same angles, which are made ready once."""

    def __init__(self) -> None:
        self._given: tuple[Tensor | None, Tensor | None, int] = (None, None, 0)
        self._angles: tuple[Tensor, Tensor]

    def __call__(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        """`q` and `k` `[rows, heads, tokens, size]`, `cos` and `sin` `[rows, tokens, size]`, which come to
        stand with the heads by a dimension at `unsqueeze_dim`."""
        last_cos, last_sin, dimension = self._given
        if cos is not last_cos or sin is not last_sin or unsqueeze_dim != dimension:
            first, second = sin.chunk(2, dim=-1)
            signed = torch.cat((-first, second), dim=-1)
            self._angles = cos.unsqueeze(unsqueeze_dim), signed.unsqueeze(unsqueeze_dim)
            self._given = cos, sin, unsqueeze_dim
        half = q.shape[-1] // 2
        wide, signed = self._angles
        return (
            torch.addcmul(q * wide, q.roll(half, dims=-1), signed),
            torch.addcmul(k * wide, k.roll(half, dims=-1), signed),
        )


def use_quick_rotary(model: nn.Module) -> None:
    """Let the modules of a model use `Rotary` where their code calls a function that gives the same.

    Their forward is bound to them once more, with this one name standing for something else: other models of
    the same class are left as they are.
    """
    dtype = next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)
    rotary, known = Rotary(), dict[Any, bool]()
    for module in model.modules():
        forward = type(module).forward
        if not isinstance(forward, FunctionType) or "forward" in vars(module):
            continue
        theirs = forward.__globals__.get(_NAME)
        if theirs is None or _NAME not in forward.__code__.co_names:
            continue
        if theirs not in known:
            known[theirs] = _gives_the_same(theirs, dtype)
        if known[theirs]:
            vars(module)["forward"] = MethodType(_with_name(forward, rotary), module)


def _gives_the_same(theirs: Any, dtype: torch.dtype) -> bool:
    """Whether a function turns queries and keys as `Rotary` does, for angles of either precision."""
    if list(inspect.signature(theirs).parameters) != _PARAMETERS:
        return False
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, heads, 3, 8, generator=generator).to(dtype) for heads in (4, 2))
    angles = torch.randn(2, 3, 4, generator=generator).repeat(1, 1, 2)
    try:
        for precision in (torch.float32, dtype):
            cos, sin = angles.cos().to(precision), angles.sin().to(precision)
            expected, found = theirs(q, k, cos, sin), Rotary()(q, k, cos, sin)
            if not all(map(same, found, expected)):
                return False
    except MISFITS as error:
        misfit(error)  # raises it again where memory ran out
        return False
    return True


def _with_name(function: FunctionType, rotary: Rotary) -> FunctionType:
    """The function, to which `apply_rotary_pos_emb` is this one."""
    names = {**function.__globals__, _NAME: rotary}
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
