"""Attention over lanes in slots in fewer calls than the models' code makes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.grouped_attention import NAME, attention_of_one, grouped_attention
from arith.runtime.backbones.joined import Joint, joint_of
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.own_forward import own_code, use_forwards
from arith.runtime.backbones.ragged import Ragged
from arith.runtime.backbones.rotary import FUNCTION, Rotary
from arith.runtime.backbones.slot_trial import drawn_states, same_over_slots

_PARAMETERS = ("hidden_states", "position_embeddings", "attention_mask", "past_key_values")
_NAMES = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "layer_idx", "scaling", "config"),
    *("shape", "view", "transpose", "reshape", FUNCTION, "update", "training", "attention_dropout"),
    *("ALL_ATTENTION_FUNCTIONS", "get_interface", "_attn_implementation", "eager_attention_forward"),
)
_MORE = ("contiguous", "q_norm", "k_norm", "use_rope", "sliding_window", "getattr")


class QuickAttention:
    """Attention whose queries and keys are turned by their positions, and perhaps normalised before. The
    projections are one product, and queries and keys are turned together."""

    def __init__(self, module: Any, projections: Joint, rotary: Rotary):
        self.hidden, self.dtype = projections.product.in_features, projections.product.weight.dtype
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
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: SlotCache,
        ragged: Ragged | None = None,
        **_others: Any,
    ) -> Tensor:
        """`[rows, tokens, hidden]` to the same; `module` is the one whose code this is instead of."""
        product = self._projections.run(hidden_states)
        heads = product[..., : self._projections.wide].view(*hidden_states.shape[:2], -1, self.size)
        turning, values = heads.split_with_sizes(self._cuts, dim=2)
        if self._norms is not None:
            parts = turning.split_with_sizes(self._turned, dim=2)
            turning = torch.cat([norm(part) for norm, part in zip(self._norms, parts, strict=True)], dim=2)
        cos, sin = position_embeddings
        queries, keys = self._rotary.turn(turning, cos, sin, 2).split_with_sizes(self._turned, dim=2)
        stored = past_key_values.append(self._layer, keys, values)
        if ragged is None and attention_mask is not None and hidden_states.shape[1] == 1:
            attended = attention_of_one(queries, *stored, attention_mask, self._scaling)
        else:
            by_head = queries.transpose(1, 2)
            found = grouped_attention(
                module, by_head, *stored, attention_mask, scaling=self._scaling, ragged=ragged
            )
            attended = found[0].flatten(2)
        output: Tensor = self._output.forward(attended)
        return output

    def takes(self, position_embeddings: Any = None, past_key_values: Any = None, **_others: Any) -> bool:
        """Whether these are angles of whole heads, and slots."""
        if position_embeddings is None or type(past_key_values) is not SlotCache:
            return False
        angles: int = position_embeddings[0].shape[-1]
        return angles == self.size


def use_quick_attention(model: PreTrainedModel, lanes: LaneAdapters) -> None:
    """Let the attention of a model whose projections have been joined run this way over slots."""
    use_forwards(model, partial(_quick, lanes), _forward)


def _forward(kind: type[nn.Module]) -> Callable[..., Any]:
    theirs = kind.forward

    def forward(self: Any, hidden_states: Tensor, *further: Any, **named: Any) -> Any:
        if further or not self.quick.takes(**named):
            return theirs(self, hidden_states, *further, **named)
        return self.quick(self, hidden_states, **named), None

    return forward


def _quick(lanes: LaneAdapters, module: Any) -> QuickAttention | None:
    projections = joint_of(module, "q_proj", "k_proj", "v_proj")
    forward: Any = type(module).forward
    if projections is None or not own_code(forward, _PARAMETERS, _NAMES, _MORE):
        return None
    rotary = forward.__globals__.get(FUNCTION)
    if module.config._attn_implementation != NAME or not isinstance(rotary, Rotary):
        return None
    quick = QuickAttention(module, projections, rotary)

    def ours(**named: Any) -> tuple[Tensor, None]:
        return quick(module, **named), None

    given = drawn_states(quick.hidden, quick.size, quick.dtype)
    return quick if same_over_slots(ours, module, lanes, given) else None
