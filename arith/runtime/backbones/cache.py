"""The KV cache: a pool of slots, one lane each, in which the index of a key is its token's position."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from arith.runtime.sending import send


@dataclass
class LayerPool:
    """Keys and values of one attention layer, each `[slots, capacity, heads, head_dim]`.

    Positions come before heads, so that a lane is one block of memory: quicker to copy, and to read.
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Placement:
    """Where the rows of one forward stand in a store.

    `cells` `[rows * tokens]` are the places of their tokens, the store taken as one list of positions; `rows`
    selects their slots for reading, up to the position `length`.
    """

    cells: Tensor
    rows: slice | Tensor
    length: int


@dataclass(frozen=True)
class Standing:
    """Where the rows of one forward stand: their `slots` `[rows]` (`rows`: the same, as a slice where that is
    possible), and the `positions` `[rows, tokens]` of their tokens, all below `length`."""

    slots: Tensor
    positions: Tensor
    rows: slice | Tensor
    length: int

    def in_store(self, store: Tensor) -> Placement:
        cells = (self.slots[:, None] * store.shape[1] + self.positions).flatten().to(store.device)
        rows = self.rows if isinstance(self.rows, slice) else self.rows.to(store.device)
        return Placement(cells, rows, self.length)


class SlotCache(Cache):
    """A transformers cache which each row of a forward reads and writes at a slot and positions of its own.

    Memory grows on demand and is shrunk by `trim` and `clear` alone. It starts as zeros: what a mask hides
    is multiplied by zero, and must be finite for that. Where memory runs out while it grows, some layers have
    grown and others haven't: each is read and written by its own size, which is never too small.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.pools: dict[int, LayerPool] = {}
        self.slots = 0
        self.capacity = 0
        self._before = 0
        self._standing: Standing | None = None
        self._placements: dict[tuple[torch.device, int], Placement] = {}

    @property
    def nbytes(self) -> int:
        """The bytes of all keys and values that there is room for."""
        return sum(store.nbytes for store in self._stores())

    @property
    def layout(self) -> tuple[Hashable, ...]:
        """What tells programs apart that read and write where they are told by `place`: where the stores are,
        their sizes, and which slots are read without an index."""
        assert self._standing is not None
        rows = self._standing.rows
        read = (rows.start, rows.stop, rows.step) if isinstance(rows, slice) else None
        return (read, *((store.data_ptr(), store.shape[:2]) for store in self._stores()))

    def place(self, slots: Tensor, positions: Tensor, rows: slice | Tensor, length: int) -> None:
        """Tell where the rows of the next forward stand.

        slots: `[rows]`, and `rows` the same as a slice where that's possible.
        positions: of each token, `[rows, tokens]`, all below `length`.
        """
        self._before = length - positions.shape[1]
        self._standing = Standing(slots, positions, rows, length)
        self._placements = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values `[rows, heads, tokens, head_dim]`, return all of these rows."""
        return self.append(layer_idx, key_states.transpose(1, 2), value_states.transpose(1, 2))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values `[rows, tokens, heads, head_dim]`, return all of these rows, `[rows,
        heads, length, head_dim]`."""
        pool = self.pools.get(layer)
        if pool is None:
            pool = self.pools[layer] = LayerPool(self._empty(keys), self._empty(values))
        return (
            _write_and_read(pool.keys, keys, self._placement_in(pool.keys)),
            _write_and_read(pool.values, values, self._placement_in(pool.values)),
        )

    def reserve(self, slots: int, capacity: int) -> None:
        """Make room for at least so many slots and positions, keeping what is stored."""
        if slots <= self.slots and capacity <= self.capacity:
            return
        slots, capacity = max(slots, self.slots), max(capacity, self.capacity)
        for pool in self.pools.values():
            pool.keys = _enlarged(pool.keys, slots, capacity)
            pool.values = _enlarged(pool.values, slots, capacity)
        self.slots, self.capacity = slots, capacity

    def copy(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of each source slot to its target, reading all before writing."""
        if not sources:
            return
        # All memory that it takes is allocated before anything is written: it fails as a whole or not at all.
        shapes = {(store.device, store.dtype, store.shape[2:]): store for store in self._stores()}
        buffers = {
            kind: store.new_empty(len(sources), length, *store.shape[2:]) for kind, store in shapes.items()
        }
        devices = {store.device for store in self._stores()}
        indices = {device: send([sources, targets], device) for device in devices}
        for store in self._stores():
            read, write = indices[store.device]
            buffer = buffers[store.device, store.dtype, store.shape[2:]]
            torch.index_select(store[:, :length], 0, read, out=buffer)
            store[:, :length].index_copy_(0, write, buffer)

    def trim(self, slots: int) -> None:
        """Give back the memory behind the first `slots` slots."""
        self.slots = min(slots, self.slots)
        for pool in self.pools.values():
            pool.keys = self._trimmed(pool.keys)
            pool.values = self._trimmed(pool.values)

    def clear(self) -> None:
        """Give all memory back."""
        self.pools = {}
        self.slots = self.capacity = self._before = 0
        self._standing = None
        self._placements = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions before the tokens of this forward, for models which ask."""
        return self._before

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self._before + query_length, 0

    def _placement_in(self, store: Tensor) -> Placement:
        key = (store.device, store.shape[1])
        found = self._placements.get(key)
        if found is None:
            assert self._standing is not None
            found = self._placements[key] = self._standing.in_store(store)
        return found

    def _stores(self) -> list[Tensor]:
        return [store for pool in self.pools.values() for store in (pool.keys, pool.values)]

    def _trimmed(self, store: Tensor) -> Tensor:
        if store.shape[:2] == (self.slots, self.capacity):
            return store
        return store[: self.slots, : self.capacity].clone()

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.slots, self.capacity, *like.shape[2:])


def slot_rows(slots: list[int], at: Tensor) -> slice | Tensor:
    """The slots as a slice, which reads them without a copy, where they are evenly spaced and ascending; else
    `at`, which holds the same as a tensor."""
    stride = slots[1] - slots[0] if len(slots) > 1 else 1
    if stride > 0 and all(right - left == stride for left, right in pairwise(slots)):
        return slice(slots[0], slots[-1] + 1, stride)
    return at


def _write_and_read(store: Tensor, states: Tensor, placement: Placement) -> Tensor:
    store.flatten(0, 1).index_copy_(0, placement.cells, states.flatten(0, 1))
    return store[placement.rows, : placement.length].transpose(1, 2)


def _enlarged(store: Tensor, slots: int, capacity: int) -> Tensor:
    """The store, or a larger copy of it if it lacks room for so many slots and positions."""
    held = store.shape[:2]
    if held[0] >= slots and held[1] >= capacity:
        return store
    larger = store.new_zeros(max(slots, held[0]), max(capacity, held[1]), *store.shape[2:])
    larger[: held[0], : held[1]] = store
    return larger
