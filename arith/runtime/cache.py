"""The KV cache: a pool of slots, one lane each, in which the index of a key is its token's position."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


@dataclass
class LayerPool:
    """Keys and values of one attention layer, each `[slots, capacity, heads, head_dim]`.

    Positions come before heads, so that a lane is one block of memory: quicker to copy, and to read.
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Placement:
    """Where the rows of one forward stand.

    `cells` `[rows * tokens]` are the places of their tokens in the pool, taken as one list of positions;
    `rows` selects their slots for reading, up to the position `length`.
    """

    cells: Tensor
    rows: slice | Tensor
    length: int

    def on(self, device: torch.device) -> "Placement":
        rows = self.rows if isinstance(self.rows, slice) else self.rows.to(device)
        return Placement(self.cells.to(device), rows, self.length)


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
        self._before = 0
        self._placements: dict[torch.device, Placement] = {}

    def place(self, slots: Tensor, positions: Tensor, rows: slice | Tensor, length: int) -> None:
        """Tell where the rows of the next forward stand.

        slots: `[rows]`, and `rows` the same as a slice where that's possible.
        positions: of each token, `[rows, tokens]`, all below `length`.
        """
        cells = (slots[:, None] * self.capacity + positions).flatten()
        self._before = length - positions.shape[1]
        self._placements = {cells.device: Placement(cells, rows, length)}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values `[rows, heads, tokens, head_dim]`, return all of these rows."""
        pool = self.pools.get(layer_idx)
        if pool is None:
            pool = LayerPool(
                self._empty(key_states.transpose(1, 2)), self._empty(value_states.transpose(1, 2))
            )
            self.pools[layer_idx] = pool
        placement = self._placement_on(pool.keys.device)
        return (
            _write_and_read(pool.keys, key_states, placement),
            _write_and_read(pool.values, value_states, placement),
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
                store[write, :length] = store[read, :length]

    def clear(self) -> None:
        """Give all memory back."""
        self.pools = {}
        self.slots = self.capacity = self._before = 0
        self._placements = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before the tokens of this forward, for models which ask."""
        return self._before

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self._before + query_length, 0

    def _placement_on(self, device: torch.device) -> Placement:
        found = self._placements.get(device)
        if found is None:
            found = next(iter(self._placements.values())).on(device)
            self._placements[device] = found
        return found

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.slots, self.capacity, *like.shape[2:])

    def _enlarged(self, store: Tensor) -> Tensor:
        larger = self._empty(store)
        larger[: store.shape[0], : store.shape[1]] = store
        return larger


def slot_rows(slots: list[int], at: Tensor) -> slice | Tensor:
    """The slots as a slice, which reads them without a copy, where they are evenly spaced and ascending; else
    `at`, which holds the same as a tensor."""
    stride = slots[1] - slots[0] if len(slots) > 1 else 1
    if stride > 0 and all(right - left == stride for left, right in pairwise(slots)):
        return slice(slots[0], slots[-1] + 1, stride)
    return at


def _write_and_read(store: Tensor, states: Tensor, placement: Placement) -> Tensor:
    tokens_first = states.transpose(1, 2)
    store.flatten(0, 1).index_copy_(0, placement.cells, tokens_first.flatten(0, 1))
    return store[placement.rows, : placement.length].transpose(1, 2)
