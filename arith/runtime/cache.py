"""The KV cache: a pool of slots, one lane each, in which the index of a key is its token's position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

Rows = slice | Tensor


@dataclass
class LayerPool:
    """Keys and values of one attention layer, each `[slots, heads, capacity, head_dim]`."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Placement:
    """Where the rows of one forward stand: slots `[rows]`, and positions of the tokens `[rows, tokens]`.

    `rows` selects the same slots for reading, and keys are read up to the position `length`.
    """

    slots: Tensor
    positions: Tensor
    rows: Rows
    length: int


class SlotCache(Cache):
    """A transformers cache which each row of a forward reads and writes at a slot and positions of its own.

    Memory grows on demand and is never shrunk but by `clear`. It starts as zeros: what a mask hides is
    multiplied by zero, and must be finite for that.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.pools: dict[int, LayerPool] = {}
        self.slots = 0
        self.capacity = 0
        self._placement: Placement | None = None
        self._moved: dict[torch.device, Placement] = {}

    def place(self, placement: Placement) -> None:
        """Tell where the rows of the next forward stand."""
        self._placement = placement
        self._moved = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values `[rows, heads, tokens, head_dim]`, return all of these rows."""
        placement = self._placement_on(key_states.device)
        pool = self.pools.get(layer_idx)
        if pool is None:
            pool = LayerPool(self._empty(key_states), self._empty(value_states))
            self.pools[layer_idx] = pool
        at = (placement.slots[:, None], slice(None), placement.positions)
        pool.keys[at] = key_states.transpose(1, 2)
        pool.values[at] = value_states.transpose(1, 2)
        return (
            pool.keys[placement.rows, :, : placement.length],
            pool.values[placement.rows, :, : placement.length],
        )

    def reserve(self, slots: int, capacity: int) -> None:
        """Make room for at least so many slots and positions, keeping what is stored."""
        if slots <= self.slots and capacity <= self.capacity:
            return
        self.slots, self.capacity = max(slots, self.slots), max(capacity, self.capacity)
        for pool in self.pools.values():
            pool.keys = self._enlarged(pool.keys)
            pool.values = self._enlarged(pool.values)

    def copy(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of each source slot to its target, reading all before writing."""
        if not sources:
            return
        for pool in self.pools.values():
            device = pool.keys.device
            read = torch.tensor(sources, device=device)
            write = torch.tensor(targets, device=device)
            for store in (pool.keys, pool.values):
                store[write, :, :length] = store[read, :, :length]

    def clear(self) -> None:
        """Give all memory back."""
        self.pools = {}
        self.slots = self.capacity = 0
        self._placement = None
        self._moved = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before the tokens of this forward, as models ask that build their own positions."""
        if self._placement is None:
            return 0
        return self._placement.length - self._placement.positions.shape[1]

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def _placement_on(self, device: torch.device) -> Placement:
        assert self._placement is not None, "a forward without a placement"
        placement = self._moved.get(device)
        if placement is None:
            whole = self._placement
            rows = whole.rows if isinstance(whole.rows, slice) else whole.rows.to(device)
            placement = Placement(whole.slots.to(device), whole.positions.to(device), rows, whole.length)
            self._moved[device] = placement
        return placement

    def _empty(self, states: Tensor) -> Tensor:
        return states.new_zeros(self.slots, states.shape[1], self.capacity, states.shape[3])

    def _enlarged(self, store: Tensor) -> Tensor:
        larger = self._empty(store)
        larger[: store.shape[0], :, : store.shape[2]] = store
        return larger
