"""Different LoRA adapters in one forward: every lane its own, none of them in a loop.

Where a layer has adapters, all their A matrices stand side by side, and so do their B matrices, with the
scaling folded in. One multiplication by A gives the low-rank states of every adapter, a mask of ranks keeps
those of the lane's own adapter, and one multiplication by B adds them up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from arith.errors import OperandError
from arith.runtime.sending import send

# Which adapter the ranks of a layer belong to: (adapter, number of its ranks), in order.
RankLayout = tuple[tuple[str, int], ...]


@dataclass
class LaneAdapters:
    """The adapter of each lane of the coming forward, and the rank masks that follow from them.

    `known` are those that a lane may have; None is the bare base model. `masks` are those of each layout in
    `layouts`: `[lanes, 1, ranks]`, 1 where the rank belongs to the lane's adapter; None where none does. They
    are there before the forward, so that a compiled one finds tensors alone; and they stay where they are in
    memory, for a CUDA graph reads them where they were when it was recorded.
    """

    known: frozenset[str | None] = frozenset({None})
    adapters: tuple[str | None, ...] = ()
    tokens: int = 1
    layouts: dict[tuple[RankLayout, torch.device, torch.dtype], int] = field(default_factory=dict)
    masks: list[Tensor | None] = field(default_factory=list)
    stores: dict[tuple[RankLayout, torch.device, torch.dtype], Tensor] = field(default_factory=dict)

    @property
    def any_adapter(self) -> str | None:
        """One that a lane may have, the bare base where there is no other."""
        return max(self.known, key=lambda adapter: adapter or "")

    def number(self, layout: RankLayout, like: Tensor) -> int:
        """The place in `masks` of a layout's mask, for matrices like this one. The next `select` makes it."""
        self.adapters = ()
        return self.layouts.setdefault((layout, like.device, like.dtype), len(self.layouts))

    def select(self, adapters: Sequence[str | None], tokens: int) -> None:
        """`adapters` of the lanes, each of which runs `tokens` tokens."""
        self.tokens = tokens
        if tuple(adapters) != self.adapters:
            strange = set(adapters) - self.known
            if strange:
                raise ValueError(f"this backbone runs no lanes with the adapter {strange.pop()}")
            self.adapters = tuple(adapters)
            self.masks = [self._mask(*key) for key in self.layouts]

    @property
    def absent(self) -> tuple[bool, ...]:
        """For each layout whether the coming forward has no adapter of it, and so runs other code."""
        return tuple(mask is None for mask in self.masks)

    def by_lane(self, low: Tensor, lanes: int, place: str) -> Tensor:
        """The low-rank states of the layer at `place` as `[lanes, tokens, ranks]`; models flatten lanes and
        tokens here and there."""
        if low.dim() == 3 and low.shape[0] == lanes:
            return low
        if tuple(low.shape[:-1]) in ((lanes * self.tokens,), (1, lanes * self.tokens)):
            return low.view(lanes, self.tokens, -1)
        raise OperandError(
            f"the adapters of `{place}` can't be told apart: its input {list(low.shape[:-1])} isn't "
            f"{lanes} lanes of {self.tokens} tokens",
            "adapt other layers, or merge the adapter into its base",
        )

    @torch.inference_mode()
    def _mask(self, layout: RankLayout, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        numbers = {adapter: number for number, (adapter, _) in enumerate(layout)}
        lanes = [-1 if adapter is None else numbers.get(adapter, -1) for adapter in self.adapters]
        owners = [numbers[adapter] for adapter, ranks in layout for _ in range(ranks)]
        if max(lanes) < 0:
            return None
        owned = send(torch.tensor(lanes)[:, None, None] == torch.tensor(owners), device, dtype)
        key = (layout, device, dtype)
        if key not in self.stores or len(self.stores[key]) < len(lanes):
            room = 1 << (len(lanes) - 1).bit_length()
            self.stores[key] = owned.new_empty(room, *owned.shape[1:])
        return self.stores[key][: len(lanes)].copy_(owned)


class MixedLora(nn.Module):
    """A layer of the base model with the adapters of all lanes; takes the place of peft's layer."""

    def __init__(self, layer: Any, place: str, names: Mapping[str, str], lanes: LaneAdapters):
        """`layer` is peft's, `place` its path in the model, `names` maps adapters to their names in peft."""
        super().__init__()
        self.base_layer: nn.Module = layer.base_layer
        self.place = place
        self.lanes = lanes
        self.embeds = len(layer.lora_embedding_A) > 0
        down, up = (
            (layer.lora_embedding_A, layer.lora_embedding_B) if self.embeds else (layer.lora_A, layer.lora_B)
        )
        present = [(adapter, name) for adapter, name in names.items() if name in down]
        downs = [_matrix(down[name]) for _, name in present]
        ups = [_matrix(up[name]) * layer.scaling[name] for _, name in present]
        self.layout: RankLayout = tuple(
            (adapter, one.shape[0]) for (adapter, _), one in zip(present, downs, strict=True)
        )
        self.register_buffer("up", torch.cat(ups, dim=1).t().contiguous())  # [ranks, out]
        self.number = lanes.number(self.layout, self.up)
        self.embed_scale = getattr(layer.base_layer, "embed_scale", None) if self.embeds else None
        self.register_buffer("down", torch.cat(downs).t().contiguous())  # [in, ranks]

    down: Tensor
    up: Tensor

    @property
    def weight(self) -> Any:
        """The base layer's weight, for model code which looks at it (its dtype, a tied output layer)."""
        return self.base_layer.weight

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = self.base_layer(states, *args, **kwargs)
        mask = self.lanes.masks[self.number]
        if mask is None:
            return result
        if self.embeds:
            low = nn.functional.embedding(states, self.down)
        else:
            low = states.to(self.down.dtype) @ self.down
        low = (self.lanes.by_lane(low, mask.shape[0], self.place) * mask).reshape(-1, low.shape[-1])
        if self.embed_scale is not None:
            low = low * self.embed_scale
        if low.dtype == result.dtype and result.is_contiguous():
            result.view(-1, result.shape[-1]).addmm_(low, self.up)
            return result
        return result + (low @ self.up).view(result.shape).to(result.dtype)


def mix_adapters(model: nn.Module, names: Mapping[str, str]) -> LaneAdapters:
    """Put a `MixedLora` in the place of each LoRA layer that peft has made in `model`.

    `names` maps each adapter to its name in peft. Raises `OperandError` for a layer that isn't linear or an
    embedding. Returns what to tell the adapters of the lanes before each forward.
    """
    from peft.tuners.lora import Embedding, LoraLayer

    lanes = LaneAdapters(known=frozenset({None, *names}))
    found = [(place, module) for place, module in model.named_modules() if isinstance(module, LoraLayer)]
    for place, layer in found:
        if not isinstance(layer, Embedding) and not all(
            isinstance(one, nn.Linear) for one in (*layer.lora_A.values(), *layer.lora_B.values())
        ):
            kind = type(layer.get_base_layer()).__name__
            raise OperandError(
                f"the layer `{place}` ({kind}) of {', '.join(names)} is neither linear nor an embedding"
            )
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, MixedLora(layer, place, names, lanes))
    return lanes


def _matrix(holder: Any) -> Tensor:
    weight: Any = holder.weight if isinstance(holder, nn.Module) else holder
    matrix: Tensor = weight.detach()
    return matrix
