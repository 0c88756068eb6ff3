"""The order in which rows are seen: random, and rows of one length together."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

POOL = 50  # batches that are sorted together: enough to cut padding, and few enough to stay random


class LengthBuckets(Sampler[int]):
    """The indices of rows such that each batch holds rows of similar lengths and batches come in any order.

    lengths: tokens of each row; batch_size: rows of one optimiser step over all processes. The order follows
    from the seed and the epoch alone, so that it is the same on any number of processes and after a
    restart; rows from its beginning make the last batch whole, which processes would otherwise do each in
    its own way.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self._lengths = torch.tensor(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size) * self._batch_size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        shuffled: Any = torch.randperm(len(self._lengths), generator=generator)
        shuffled = shuffled.repeat(-(-len(self) // len(shuffled)))[: len(self)]
        pools = shuffled.split(POOL * self._batch_size)
        ordered: Any = torch.cat([pool[self._lengths[pool].argsort(stable=True)] for pool in pools])
        batches = ordered.view(-1, self._batch_size)
        order = torch.randperm(len(batches), generator=generator)
        yield from batches[order].flatten().tolist()
