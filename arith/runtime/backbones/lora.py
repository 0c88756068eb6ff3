"""Different LoRA adapters in one forward: every lane its own, none of them in a loop.

Where a layer has adapters, all their A matrices stand side by side, and so do their B matrices, with the
scaling folded in. One multiplication by A gives the low-rank states of every adapter, a mask of ranks keeps
those of the lane's own adapter, and one multiplication by B adds them up. On a processor with packed layers
A stands below the base weights, as further outputs of the layer: one multiplication less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from arith.errors import OperandError
from arith.operands.packed import packable

# Which adapter the ranks of a layer belong to: (adapter, number of its ranks), in order.
RankLayout = tuple[tuple[str, int], ...]


@dataclass
class LaneAdapters:
    """The adapter of each lane of the coming forward, and the rank masks that follow from them.

    `known` are those that a lane may have; None is the bare base model. `masks` are those of each layout in
    `layouts`: `[lanes, 1, ranks]`, 1 where the rank belongs to the lane's adapter; None where none does. They
    are there before the forward, so that a compiled one finds tensors alone.
    """

    known: frozenset[str | None] = frozenset({None})
    adapters: tuple[str | None, ...] = ()
    tokens: int = 1
    layouts: dict[tuple[RankLayout, torch.device, torch.dtype], int] = field(default_factory=dict)
    masks: list[Tensor | None] = field(default_factory=list)

    def number(self, layout: RankLayout, like: Tensor) -> int:
        """The place in `masks` of a layout's mask, for matrices like this one."""
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

    def _mask(self, layout: RankLayout, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        numbers = {adapter: number for number, (adapter, _) in enumerate(layout)}
        lanes = [-1 if adapter is None else numbers.get(adapter, -1) for adapter in self.adapters]
        owners = [number for number, (_, ranks) in enumerate(layout) for _ in range(ranks)]
        owned = torch.tensor(lanes)[:, None, None] == torch.tensor(owners)
        return owned.to(device, dtype) if max(lanes) >= 0 else None


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
        self.below = 0  # the ranks that are further outputs of the base layer
        down = torch.cat(downs)  # [ranks, in]
        if packable(self.base_layer) and down.dtype == cast(nn.Linear, self.base_layer).weight.dtype:
            self.base_layer = _with_rows_below(cast(nn.Linear, self.base_layer), down)
            self.below = len(down)
        else:  # by embeddings it is looked up by token: [tokens, ranks]
            self.register_buffer("down", down.t().contiguous() if self.embeds else down)

    down: Tensor
    up: Tensor

    @property
    def weight(self) -> Any:
        """The base layer's weight, for model code which looks at it (its dtype, a tied output layer)."""
        weight: Any = self.base_layer.weight
        return weight[: len(weight) - self.below] if self.below else weight

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = self.base_layer(states, *args, **kwargs)
        mask = self.lanes.masks[self.number]
        if self.below:
            return self._apart(result, mask)
        if mask is None:
            return result
        if self.embeds:
            low = nn.functional.embedding(states, self.down)
        else:
            low = nn.functional.linear(states.to(self.down.dtype), self.down)
        low = (self._by_lane(low, mask.shape[0]) * mask).reshape(-1, low.shape[-1])
        if self.embed_scale is not None:
            low = low * self.embed_scale
        if low.dtype == result.dtype and result.is_contiguous():
            result.view(-1, result.shape[-1]).addmm_(low, self.up)
            return result
        return result + (low @ self.up).view(result.shape).to(result.dtype)

    def _apart(self, joined: Tensor, mask: Tensor | None) -> Tensor:
        """The layer's own result, from one whose last outputs are low-rank states."""
        width = joined.shape[-1] - self.below
        result = joined[..., :width]
        if mask is not None:
            low = self._by_lane(joined[..., width:], mask.shape[0]) * mask
            result.view(-1, width).addmm_(low.view(-1, self.below), self.up)
        return result

    def _by_lane(self, low: Tensor, lanes: int) -> Tensor:
        """The low-rank states as `[lanes, tokens, ranks]`; models flatten lanes and tokens here and there."""
        if low.dim() == 3 and low.shape[0] == lanes:
            return low
        if tuple(low.shape[:-1]) in ((lanes * self.lanes.tokens,), (1, lanes * self.lanes.tokens)):
            return low.view(lanes, self.lanes.tokens, -1)
        raise OperandError(
            f"the adapters of `{self.place}` can't be told apart: its input {list(low.shape[:-1])} isn't "
            f"{lanes} lanes of {self.lanes.tokens} tokens",
            "adapt other layers, or merge the adapter into its base",
        )


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


def _with_rows_below(layer: nn.Linear, rows: Tensor) -> nn.Linear:
    """The layer with further outputs, which have no bias."""
    weight = torch.cat([layer.weight.detach(), rows])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        bias = torch.cat([layer.bias.detach(), layer.bias.new_zeros(len(rows))])
        joined.bias = nn.Parameter(bias, requires_grad=False)
    return joined


def _matrix(holder: Any) -> Tensor:
    weight: Any = holder.weight if isinstance(holder, nn.Module) else holder
    matrix: Tensor = weight.detach()
    return matrix
