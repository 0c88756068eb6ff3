"""Rotary position embeddings in three operations, where the models' code takes eight."""

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType

import torch
from torch import Tensor, nn

from arith.runtime.backbones.own_forward import gives_the_same, with_forward

FUNCTION = "apply_rotary_pos_emb"
_PARAMETERS = ["q", "k", "cos", "sin", "unsqueeze_dim"]

Turn = Callable[..., tuple[Tensor, Tensor]]


class Rotary:
    """Turns queries and keys by their positions (RoPE, Su et al. 2021), the halves of a head being the two
    coordinates; where the angles are those of a part of a head, as `theirs` does.

    Layers that follow each other are mostly given the same angles, which are made ready once.
    """

    def __init__(self, theirs: Turn):
        self._theirs = theirs
        self._given: tuple[Tensor | None, Tensor | None, int] = (None, None, 0)
        self._angles: tuple[Tensor, Tensor]

    def __call__(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        """`q` and `k` `[rows, heads, tokens, size]`, `cos` and `sin` `[rows, tokens, size]`, which come to
        stand with the heads by a dimension at `unsqueeze_dim`."""
        if cos.shape[-1] != q.shape[-1]:
            return self._theirs(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        return self.turn(q, cos, sin, unsqueeze_dim), self.turn(k, cos, sin, unsqueeze_dim)

    def turn(self, states: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int) -> Tensor:
        """Queries, keys, or both side by side, by angles of whole heads."""
        last_cos, last_sin, dimension = self._given
        if cos is not last_cos or sin is not last_sin or unsqueeze_dim != dimension:
            first, second = sin.chunk(2, dim=-1)
            signed = torch.cat((-first, second), dim=-1)
            self._angles = cos.unsqueeze(unsqueeze_dim), signed.unsqueeze(unsqueeze_dim)
            self._given = cos, sin, unsqueeze_dim
        wide, signed = self._angles
        return torch.addcmul(states * wide, states.roll(states.shape[-1] // 2, dims=-1), signed)


def use_quick_rotary(model: nn.Module) -> None:
    """Let the modules of a model use `Rotary` where their code calls a function that gives the same.

    They get a class of their own, in whose forward that name stands for something else: other models are left
    as they are.
    """
    dtype = next((one.dtype for one in model.parameters() if one.is_floating_point()), torch.float32)
    quick: dict[Turn, Rotary | None] = {}
    classes: dict[type[nn.Module], type[nn.Module]] = {}
    for module in model.modules():
        kind = type(module)
        if "forward" in vars(module):  # one of its own, such as hooks put there that move weights
            continue
        if kind not in classes:
            classes[kind] = _with_rotary(kind, quick, dtype)
        if classes[kind] is not kind:
            module.__class__ = classes[kind]


def _with_rotary(
    kind: type[nn.Module], quick: dict[Turn, Rotary | None], dtype: torch.dtype
) -> type[nn.Module]:
    """A class like this one that uses `Rotary`, itself where there is nothing to use it for. `quick` holds
    what is known of the functions that others use."""
    forward = kind.forward
    if not isinstance(forward, FunctionType) or FUNCTION not in forward.__code__.co_names:
        return kind
    theirs = forward.__globals__.get(FUNCTION)
    if not isinstance(theirs, FunctionType):
        return kind
    if theirs not in quick:
        quick[theirs] = Rotary(theirs) if _gives_the_same(theirs, dtype) else None
    rotary = quick[theirs]
    if rotary is None:
        return kind
    rebound = FunctionType(
        forward.__code__,
        {**forward.__globals__, FUNCTION: rotary},
        forward.__name__,
        forward.__defaults__,
        forward.__closure__,
    )
    rebound.__kwdefaults__ = forward.__kwdefaults__
    return with_forward(kind, rebound)


def _gives_the_same(theirs: FunctionType, dtype: torch.dtype) -> bool:
    """Whether a function turns queries and keys as `Rotary` does, for angles of either precision."""
    if list(inspect.signature(theirs).parameters) != _PARAMETERS:
        return False
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, heads, 3, 8, generator=generator).to(dtype) for heads in (4, 2))
    angles = torch.randn(2, 3, 4, generator=generator).repeat(1, 1, 2)
    for precision in (torch.float32, dtype):
        cos, sin = angles.cos().to(precision), angles.sin().to(precision)
        if not gives_the_same(partial(Rotary(theirs), q, k, cos, sin), partial(theirs, q, k, cos, sin)):
            return False
    return True
