"""Decoder layers in fewer calls than the models' code makes."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.own_forward import own_code, use_forwards
from arith.runtime.backbones.quick_attention import QuickAttention
from arith.runtime.backbones.quick_feed_forward import QuickFeedForward
from arith.runtime.backbones.slot_trial import drawn_states, same_over_slots

_PARAMETERS = (
    *("hidden_states", "position_embeddings", "attention_mask", "past_key_values"),
    *("position_ids", "use_cache"),
)
_NAMES = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


class QuickLayer:
    """A layer that normalises what enters its attention and its feed-forward layer, and adds to it what each
    gives (pre-norm: Xiong et al. 2020). Its attention runs over slots."""

    def __init__(self, layer: Any):
        self.attend: QuickAttention = layer.self_attn.quick
        self._attention: nn.Module = layer.self_attn
        self._before_attention: nn.Module = layer.input_layernorm
        self._before_feed_forward: nn.Module = layer.post_attention_layernorm
        quick = getattr(layer.mlp, "quick", None)
        self._feed_forward: Any = quick if isinstance(quick, QuickFeedForward) else layer.mlp

    def __call__(self, hidden_states: Tensor, **inputs: Any) -> Tensor:
        """`[rows, tokens, hidden]` to the same."""
        normed = self._before_attention.forward(hidden_states)
        states = hidden_states + self.attend(self._attention, normed, **inputs)
        output: Tensor = states + self._feed_forward(self._before_feed_forward.forward(states))
        return output


def use_quick_layers(model: PreTrainedModel, lanes: LaneAdapters) -> None:
    """Let the layers of a model whose attention is `QuickAttention` run this way over slots."""
    use_forwards(model, partial(_quick, lanes), _forward)


def _forward(kind: type[nn.Module]) -> Callable[..., Any]:
    theirs = kind.forward

    def forward(self: Any, hidden_states: Tensor, *further: Any, **named: Any) -> Any:
        if further or not self.quick.attend.takes(**named):
            return theirs(self, hidden_states, *further, **named)
        return self.quick(hidden_states, **named)

    return forward


def _quick(lanes: LaneAdapters, layer: Any) -> QuickLayer | None:
    attend = getattr(getattr(layer, "self_attn", None), "quick", None)
    forward = inspect.unwrap(type(layer).forward)  # of what switches checkpoints on in training
    if not isinstance(attend, QuickAttention) or not own_code(forward, _PARAMETERS, _NAMES):
        return None
    quick = QuickLayer(layer)
    given = drawn_states(attend.hidden, attend.size, attend.dtype)
    return quick if same_over_slots(quick, layer, lanes, given) else None
