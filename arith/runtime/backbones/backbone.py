"""A backbone: one loaded set of weights, asked for the logits of lanes."""

import inspect
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import OperandError
from arith.operands.adapters import adapter_config, attach, unmixable
from arith.operands.packing import pack_linears
from arith.runtime.backbones.backbone_stats import BackboneStats
from arith.runtime.backbones.compiled import CompiledSteps, compiles
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.grouped_attention import use_grouped_attention
from arith.runtime.backbones.joined import join_linears
from arith.runtime.backbones.lane import Lane, LaneRequest
from arith.runtime.backbones.longrope import turning_lengths
from arith.runtime.backbones.lora import LaneAdapters, mix_adapters
from arith.runtime.backbones.masks import MaskLayout, mask_layout
from arith.runtime.backbones.norms import use_quick_norms
from arith.runtime.backbones.outgrowing import OutgrowingBackbone
from arith.runtime.backbones.probe import disagreement, runs_ragged
from arith.runtime.backbones.quick_attention import use_quick_attention
from arith.runtime.backbones.quick_feed_forward import use_quick_feed_forward
from arith.runtime.backbones.quick_layer import use_quick_layers
from arith.runtime.backbones.quick_model import use_quick_model
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.rotary import use_quick_rotary
from arith.runtime.backbones.slot_forward import SlotForward
from arith.runtime.backbones.slots import SlotBackbone
from arith.runtime.options import Compile

__all__ = ["Backbone", "BackboneStats", "Lane", "LaneRequest", "Opening", "make_backbone"]


class Opening(Protocol):
    """Lanes on their way to be open; `lanes` and `logits` are those of `Backbone.open` when they are."""

    lanes: list[Lane]
    logits: list[Tensor]

    def advance(self, budget: int | None = None) -> bool:
        """Run about `budget` tokens of the prompts (None: all), at least one forward; whether all are done.

        Then the lanes are open. After a failure they are as if cancelled. Raises `ValueError` when it has
        ended before.
        """
        ...

    def cancel(self) -> None:
        """Open none of the lanes."""
        ...


class Backbone(Protocol):
    """Answers "these lanes, these new tokens: their logits" and owns its cache.

    `context` is the most tokens a lane may have (None: no limit), and `most_cached` the most whose keys and
    values are kept: a longer one is run anew from its beginning. `slower` says why lanes don't share their
    forwards (None: they do), and `note` what a user should know of that. `compiles` says whether its steps
    are to be compiled. `cache_bytes` is the memory of its cache, in bytes. Logits are in the model's dtype,
    on `device`. Whoever runs the `model` itself tells its `adapters` which ones the lanes have.

    A method that fails, for want of memory too, leaves the open lanes as they were.
    """

    name: str
    stats: BackboneStats
    context: int | None
    most_cached: int | None
    device: torch.device
    model: PreTrainedModel
    adapters: LaneAdapters
    slower: str | None

    @property
    def note(self) -> str | None: ...

    @property
    def compiles(self) -> bool: ...

    @property
    def cache_bytes(self) -> int: ...

    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """New lanes, and the logits `[keep, vocabulary]` of each (its last positions; not to be changed)."""
        ...

    def begin(self, requests: Sequence[LaneRequest]) -> Opening:
        """Like `open`, in slices: the prompts run as what it gives is told to `advance`.

        Meanwhile other lanes may be opened, run and closed.
        """
        ...

    def step(self, lanes: Sequence[Lane], tokens: Sequence[int]) -> Tensor:
        """One more token for each lane; logits `[n, vocabulary]` in their order."""
        ...

    def extend(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> list[Tensor]:
        """New tokens for each lane, at least one, their number its own; for each lane the logits
        `[keep, vocabulary]` after its last new tokens, 1 <= keep <= their number (None: after all of them).
        One forward."""
        ...

    def crop(self, lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
        """Each lane forgets its tokens beyond the first `length` of them, 0 <= length <= their number.
        Nothing is computed anew."""
        ...

    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """The logits which each lane's last `open`, `step` or `extend` would have given, had the model no
        layers after layer `exit` (0: none at all), at the positions which the lane still has. Open lanes
        only, and exits it was made for."""
        ...

    def close(self, lanes: Sequence[Lane]) -> None:
        """End the lanes."""
        ...

    def reserve(self, lanes: int, length: int) -> None:
        """A hint, while no lane is open, that so many lanes of up to that length are to come; what it is good
        for is the backbone's own business."""
        ...

    def trim(self) -> None:
        """Give back what memory can be had without the lanes that are open or being opened."""
        ...

    def forget(self) -> None:
        """Forget every lane. The memory of the cache is freed, unless it is of use to the lanes of a next
        call."""
        ...

    def reset(self) -> None:
        """Forget every lane and free the memory of the cache."""
        ...


def make_backbone(
    model: PreTrainedModel,
    adapters: Sequence[str],
    vocabulary: int,
    exits: Sequence[int] = (),
    compile: Compile = "off",
    *,
    half: bool = False,
) -> Backbone:
    """A backbone over `model`, which it changes and owns from now on, with `adapters` attached.

    Logits are cut to the first `vocabulary` tokens. An adapter which can't share a forward has to be the only
    one; all lanes then use it. `exits` are the layers for `early_logits`: 0 (the embeddings) up to the number
    of layers. `compile` is for its steps (see `CompiledSteps`); those with exits aren't compiled. With `half`
    linear layers of a model in float32 keep float16 weights. Raises `OperandError` for an encoder-decoder,
    for adapters that don't fit, and for exits which the model lacks.
    """
    if model.config.is_encoder_decoder:
        kind = f"{model.name_or_path} ({model.config.model_type})"
        raise OperandError(f"{kind} is an encoder-decoder", "operands are causal language models")
    adapters = list(dict.fromkeys(adapters))
    lanes = _with_adapters(model, adapters)
    if not compiles(compile, model.device):
        join_linears(model, lanes, half=half)
        use_quick_rotary(model)
    pack_linears(model, half=half)
    use_quick_norms(model)
    use_quick_feed_forward(model, lanes)
    early = EarlyExits(model, exits, lanes, vocabulary)
    layout = _slot_layout(model)
    if isinstance(layout, str):
        return RecomputeBackbone(model, vocabulary, lanes, early, slower=layout)
    use_grouped_attention(model)
    use_quick_attention(model, lanes)
    use_quick_layers(model, lanes)
    use_quick_model(model, lanes, layout)
    window = next(iter(turning_lengths(model.config)), None)
    slots = SlotBackbone(SlotForward(model, vocabulary, layout, lanes, early, window=window))
    # What slots are tried against; it stays for texts that outgrow them, which only longrope's do.
    plain = RecomputeBackbone(model, vocabulary, lanes, early, slower="longrope turns them by other angles")
    adapter = None if None in lanes.known else next(iter(lanes.known))
    reason = disagreement(slots, plain, adapter, vocabulary)
    if reason is not None:
        return RecomputeBackbone(model, vocabulary, lanes, early, slower=reason)
    compiled: CompiledSteps | None = None
    if not early.exits and compiles(compile, model.device):
        compiled = CompiledSteps(model, compile, static=model.device.type == "cuda")
    forward = SlotForward(model, vocabulary, layout, lanes, early, compiled, window)
    found = SlotBackbone(forward, ragged=True)
    if not runs_ragged(found, plain, adapter, vocabulary):
        found = SlotBackbone(forward)
    return found if window is None else OutgrowingBackbone(found, plain, window)


def _with_adapters(model: PreTrainedModel, adapters: list[str]) -> LaneAdapters:
    if not adapters:
        return LaneAdapters()
    alone = next((adapter for adapter in adapters if unmixable(adapter) is not None), None)
    if alone is None:
        return mix_adapters(model, attach(model, adapters)[1])
    if len(adapters) > 1:
        raise OperandError(f"the adapter {alone} can't share a backbone with others: {unmixable(alone)}")
    if getattr(adapter_config(alone), "alora_invocation_tokens", None):
        raise OperandError(f"the adapter {alone} can't be an operand: {unmixable(alone)}")
    attach(model, adapters)
    return LaneAdapters(known=frozenset({alone}))


def _slot_layout(model: PreTrainedModel) -> MaskLayout | str:
    """The masks over slots for this model, or why they can't serve it as far as its class and config tell."""
    parameters = inspect.signature(model.forward).parameters
    if getattr(model, "_is_stateful", False) or "past_key_values" not in parameters:
        return "it keeps a recurrent state"
    if "position_ids" not in parameters:
        return "its code takes no position_ids"
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention code is of the older kind, which makes masks of its own"
    return mask_layout(model.config)
