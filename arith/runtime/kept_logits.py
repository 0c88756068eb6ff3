"""Logits that are read again and again: in memory, or in a temporary file where they are too many."""

import shutil
import tempfile
from collections.abc import Mapping

import torch
from torch import Tensor

from arith.errors import PlanError
from arith.runtime.answers import Leaf
from arith.runtime.free_memory import free_memory
from arith.runtime.plan import size_in_words
from arith.runtime.scoring import RowLogits

CPU = torch.device("cpu")
MEMORY_SHARE = 0.5  # of the free memory
DISK_SHARE = 0.9  # of the room where temporary files go


class KeptLogits:
    """Room for the logits at so many positions in all, each leaf's in its own dtype.

    It is taken at the first `keep`, and `place` then says in words how much it is and where. A temporary file
    has no name any more once it is made, so it is gone with the process however that ends.
    """

    def __init__(self, positions: int):
        self.place = ""
        self._positions = positions
        self._used = 0
        self._stores: dict[Leaf, Tensor] = {}

    def keep(self, logits: RowLogits) -> RowLogits:
        """The same logits `[positions, vocab]` of one row, as long as they are wanted. Every row has the same
        leaves. Raises `PlanError` with the figures where neither memory nor disk has room for all."""
        if not self._stores:
            self._stores = self._reserved(logits)
        count = len(next(iter(logits.values())))
        part = slice(self._used, self._used + count)
        kept = {leaf: self._stores[leaf][part] for leaf in logits}
        for leaf, values in logits.items():
            kept[leaf].copy_(values)
        self._used += count  # behind what may fail, and is then done once more
        return kept

    def _reserved(self, logits: RowLogits) -> dict[Leaf, Tensor]:
        widths = {leaf: (values.shape[-1], values.dtype) for leaf, values in logits.items()}
        size = sum(self._positions * width * dtype.itemsize for width, dtype in widths.values())
        memory = free_memory(CPU)
        if size <= MEMORY_SHARE * memory:
            self.place = f"{size_in_words(size)} in memory"
            return {leaf: torch.empty(self._positions, w, dtype=d) for leaf, (w, d) in widths.items()}
        folder = tempfile.gettempdir()
        disk = shutil.disk_usage(folder).free
        if size <= DISK_SHARE * disk:
            self.place = f"{size_in_words(size)} in a temporary file in {folder}"
            return self._mapped(widths)
        raise PlanError(
            f"the operands' logits at {self._positions:,} positions take {size_in_words(size)}: of memory "
            f"{size_in_words(memory)} are free, and in {folder} {size_in_words(disk)}",
            "use fewer or shorter texts, a smaller dtype, or set TMPDIR to a folder on a larger disk",
        )

    def _mapped(self, widths: Mapping[Leaf, tuple[int, torch.dtype]]) -> dict[Leaf, Tensor]:
        stores = {}
        for leaf, (width, dtype) in widths.items():
            with tempfile.NamedTemporaryFile(prefix="arith-logits-") as file:
                shape = (self._positions, width)
                whole = torch.from_file(file.name, shared=True, size=shape[0] * shape[1], dtype=dtype)
                stores[leaf] = whole.view(shape)
        return stores
