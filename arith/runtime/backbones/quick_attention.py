"""Attention over lanes in slots in fewer calls than the models' code makes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.grouped_attention import NAME, grouped_attention
from arith.runtime.backbones.joined import Joint, joint_of
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import FULL, MaskLayout
from arith.runtime.backbones.own_forward import gives_the_same, own_code, with_forward
from arith.runtime.backbones.rotary import FUNCTION, Rotary

_PARAMETERS = ["self", "hidden_states", "position_embeddings", "attention_mask", "past_key_values", "kwargs"]
_NAMES = (
    *("q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj", "head_dim", "layer_idx", "config"),
    *("shape", "view", "transpose", "reshape", "contiguous", FUNCTION, "update", "getattr", "sliding_window"),
    *("ALL_ATTENTION_FUNCTIONS", "get_interface", "_attn_implementation", "eager_attention_forward"),
    *("training", "attention_dropout", "scaling"),
)
_TOKENS = 3  # of each lane in a trial, and then one more


class QuickAttention:
    """Attention whose queries and keys are turned by their positions, and perhaps normalised before. The
    projections are one product, and queries and keys are turned together."""

    def __init__(self, module: Any, projections: Joint, rotary: Rotary):
        self.size: int = module.head_dim
        queries, keys, values = (width // self.size for width in projections.widths)
        self._turned, self._cuts = (queries, keys), (queries + keys, values)
        self._projections = projections
        self._rotary = rotary
        self._norms = (module.q_norm, module.k_norm) if hasattr(module, "q_norm") else None
        self._layer: int = module.layer_idx
        self._scaling: float = module.scaling
        self._output = module.o_proj

    def __call__(
        self,
        module: nn.Module,
        states: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: SlotCache,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """`[rows, tokens, hidden]` to the same; `angles` are cosines and sines `[rows, tokens, size]`.
        `module` is the one whose code this is instead of, and `others` are what that hands on."""
        product = self._projections.run(states)
        heads = product[..., : self._projections.wide].view(*states.shape[:2], -1, self.size)
        turning, values = heads.split_with_sizes(self._cuts, dim=2)
        if self._norms is not None:
            parts = turning.split_with_sizes(self._turned, dim=2)
            turning = torch.cat([norm(part) for norm, part in zip(self._norms, parts, strict=True)], dim=2)
        queries, keys = self._rotary.turn(turning, *angles, 2).split_with_sizes(self._turned, dim=2)
        all_keys, all_values = cache.append(self._layer, keys, values)
        attended, _ = grouped_attention(
            module, queries.transpose(1, 2), all_keys, all_values, mask, scaling=self._scaling, **others
        )
        output: Tensor = self._output.forward(attended.flatten(2))
        return output, None


def use_quick_attention(model: PreTrainedModel, lanes: LaneAdapters) -> None:
    """Let the attention of a model whose projections have been joined run this way over slots."""
    classes: dict[type[nn.Module], type[nn.Module]] = {}
    adapter = max(lanes.known, key=lambda adapter: adapter or "")
    lanes.select([adapter, adapter], _TOKENS)
    for module in model.modules():
        quick = _quick(module)
        if quick is not None:
            kind = type(module)
            vars(module)["quick"] = quick
            module.__class__ = classes.setdefault(kind, _over_slots(kind))


def _over_slots(kind: type[nn.Module]) -> type[nn.Module]:
    """A class whose modules run so where they are given slots, and angles of whole heads."""
    theirs = kind.forward

    def forward(
        self: Any,
        hidden_states: Tensor,
        position_embeddings: Any = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **others: Any,
    ) -> Any:
        if type(past_key_values) is SlotCache and position_embeddings[0].shape[-1] == self.quick.size:
            return self.quick(
                self, hidden_states, position_embeddings, attention_mask, past_key_values, **others
            )
        return theirs(self, hidden_states, position_embeddings, attention_mask, past_key_values, **others)

    return with_forward(kind, forward)


@torch.inference_mode()
def _quick(module: Any) -> QuickAttention | None:
    if not own_code(module, _PARAMETERS, _NAMES) or module.config._attn_implementation != NAME:
        return None
    projections = joint_of(module, "q_proj", "k_proj", "v_proj")
    rotary = type(module).forward.__globals__.get(FUNCTION)
    if projections is None or not isinstance(rotary, Rotary):
        return None
    quick = QuickAttention(module, projections, rotary)
    ours = partial(_trial, partial(quick, module), projections, quick.size)
    theirs = partial(_trial, module.forward, projections, quick.size)
    return quick if gives_the_same(ours, theirs) else None


def _trial(attention: Callable[..., Any], projections: Joint, size: int) -> list[Tensor]:
    """What it gives for some tokens of two lanes, and for one more of each."""
    generator = torch.Generator().manual_seed(0)
    dtype = projections.product.weight.dtype
    cache, outputs = SlotCache(), []
    cache.reserve(2, _TOKENS + 1)
    for start, stop in ((0, _TOKENS), (_TOKENS, _TOKENS + 1)):
        positions = torch.arange(start, stop).expand(2, -1)
        states = torch.randn(*positions.shape, projections.product.in_features, generator=generator)
        angles = torch.randn(*positions.shape, size // 2, generator=generator).repeat(1, 1, 2)
        cache.place(torch.arange(2), positions, slice(0, 2, 1), stop)
        mask = MaskLayout({FULL: None}).build(positions, stop, dtype)
        turns = angles.cos().to(dtype), angles.sin().to(dtype)
        outputs.append(attention(states.to(dtype), turns, mask, cache)[0])
    return outputs
