"""Steps of a whole model without what its own code does around the layers: defaults looked up, outputs noted
and wrapped, masks made anew. At few lanes that costs a twentieth of a step."""

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import MaskLayout
from arith.runtime.backbones.own_forward import own_code, use_forwards
from arith.runtime.backbones.quick_layer import QuickLayer
from arith.runtime.backbones.ragged import Ragged
from arith.runtime.backbones.slot_trial import same_over_slots

_PARAMETERS = ("input_ids", "attention_mask", "position_ids", "past_key_values", "inputs_embeds", "use_cache")
_DECODER = ("embed_tokens", "rotary_emb", "layers", "norm")
_OF_DECODER = (
    *("config", "num_hidden_layers", "layer_types", "sliding_window", "has_sliding_layers"),
    *("create_causal_mask", "create_sliding_window_causal_mask", "DynamicCache", "get_seq_length"),
    *("torch", "arange", "unsqueeze", "shape", "device", "isinstance", "dict", "enumerate", "ValueError"),
    "BaseModelOutputWithPast",
)
_MODEL = ("model", "lm_head")
_OF_MODEL = (
    *("config", "vocab_size", "loss_function", "slice_logits_to_keep", "last_hidden_state"),
    *("CausalLMOutputWithPast", "past_key_values", "hidden_states", "attentions"),
)


class Logits(NamedTuple):
    """What a quick model gives: `logits` `[rows, tokens, vocabulary]`."""

    logits: Tensor


class QuickModel:
    """A model that embeds tokens, runs layers one after another, all with the same angles, normalises what
    they give, and turns it into logits."""

    def __init__(self, model: Any):
        decoder, config = model.model, model.config.get_text_config()
        self._embed: nn.Module = decoder.embed_tokens
        self._angles: nn.Module = decoder.rotary_emb
        layers = decoder.layers[: config.num_hidden_layers]
        kinds = getattr(config, "layer_types", None) or [None] * len(layers)
        self._layers = [(layer, _alone(layer), kind) for layer, kind in zip(layers, kinds, strict=False)]
        self._norm: nn.Module = decoder.norm
        self._head: nn.Module = model.lm_head

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | dict[str, Tensor],
        position_ids: Tensor,
        past_key_values: SlotCache,
        use_cache: bool = True,
        ragged: Ragged | None = None,
    ) -> Logits:
        """Token ids `[rows, tokens]`, and masks for all layers or for each kind of them."""
        states = self._embed(input_ids)
        inputs: dict[str, Any] = {
            "position_embeddings": self._angles(states, position_ids),
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
        }
        if ragged is not None:
            inputs["ragged"] = ragged
        for layer, quick, kind in self._layers:
            mask = attention_mask[kind] if isinstance(attention_mask, dict) else attention_mask
            hooked = layer._forward_hooks or layer._forward_pre_hooks  # which see the layer's own call
            states = (layer if quick is None or hooked else quick)(states, attention_mask=mask, **inputs)
        return Logits(self._head(self._norm(states)))


def use_quick_model(model: PreTrainedModel, lanes: LaneAdapters, layout: MaskLayout) -> None:
    """Let a model whose code does nothing else run this way over slots, which `layout` makes masks for."""
    use_forwards(model, partial(_quick, lanes, layout), _forward)


def _forward(kind: type[nn.Module]) -> Callable[..., Any]:
    theirs = kind.forward

    @functools.wraps(theirs)  # others look at what it takes
    def forward(self: Any, *further: Any, **named: Any) -> Any:
        if further or type(named.get("past_key_values")) is not SlotCache:
            return theirs(self, *further, **named)
        return self.quick(**named)

    return forward


def _quick(lanes: LaneAdapters, layout: MaskLayout, model: Any) -> QuickModel | None:
    if not _is_plain(model, _MODEL, _OF_MODEL, ("labels", "logits_to_keep")):
        return None
    if not _is_plain(model.model, _DECODER, _OF_DECODER):
        return None
    quick = QuickModel(model)

    def ours(**named: Any) -> Tensor:
        return quick(**named).logits

    def theirs(**named: Any) -> Tensor:
        logits: Tensor = model(**named).logits
        return logits

    def given(positions: Tensor, _generator: torch.Generator) -> dict[str, Any]:
        return {
            "input_ids": positions,
            "attention_mask": layout.build(positions, int(positions.max()) + 1, model.dtype),
            "position_ids": positions,
            "use_cache": True,
        }

    return quick if same_over_slots(ours, theirs, lanes, given, model.device) else None


def _is_plain(module: Any, names: Sequence[str], more: Sequence[str], parameters: Sequence[str] = ()) -> bool:
    """Whether a module has parts of these names, and code that calls them and little more."""
    if "forward" in vars(module) or not all(hasattr(module, name) for name in names):
        return False
    return own_code(inspect.unwrap(type(module).forward), (*_PARAMETERS, *parameters), names, more)


def _alone(layer: nn.Module) -> QuickLayer | None:
    """What of the layer can be called by itself."""
    quick = vars(layer).get("quick")
    return quick if isinstance(quick, QuickLayer) else None
