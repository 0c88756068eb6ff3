"""Shared prefixes: which part of a prompt is in the cache already, and who should be run first for others."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

# Copying keys and values, or a further wave of forwards, isn't worth its own cost for fewer tokens in all.
WORTHWHILE = 16


@dataclass(eq=False)
class Prefill:
    """A prompt to run in its slot: `covered` of its tokens are there already, the last `keep` have to run."""

    adapter: str | None
    tokens: tuple[int, ...]
    slot: int
    keep: int
    covered: int = 0

    @property
    def coverable(self) -> int:
        return len(self.tokens) - self.keep

    @property
    def rest(self) -> int:
        return len(self.tokens) - self.covered


AnyPrefill = TypeVar("AnyPrefill", bound=Prefill)


class PrefixIndex:
    """Finds the slot that shares the longest prefix with a prompt, under the same adapter."""

    def __init__(self, entries: Iterable[tuple[str | None, Sequence[int], int]]):
        """`entries` are (adapter, tokens, slot)."""
        self._sorted: dict[str | None, list[tuple[tuple[int, ...], int]]] = {}
        for adapter, tokens, slot in entries:
            self._sorted.setdefault(adapter, []).append((tuple(tokens), slot))
        for found in self._sorted.values():
            found.sort()

    def longest(self, adapter: str | None, tokens: tuple[int, ...]) -> tuple[int, int]:
        """(slot, number of equal leading tokens); the number is 0 where there is none."""
        entries = self._sorted.get(adapter, [])
        # In sorted order, no entry shares more with the prompt than its two neighbours do.
        at = bisect_left(entries, (tokens,))
        best = (-1, 0)
        for stored, slot in entries[max(at - 1, 0) : at + 1]:
            shared = common_length(stored, tokens)
            if shared > best[1]:
                best = (slot, shared)
        return best


def common_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """The number of equal leading tokens, by bisection over slices (comparing slices is fast)."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def cover(index: PrefixIndex, prefills: Iterable[Prefill]) -> list[tuple[int, int]]:
    """Raise each prefill's `covered` to what the index offers; returns (source slot, target slot) to copy."""
    gains: list[tuple[Prefill, int, int]] = []
    for prefill in prefills:
        slot, shared = index.longest(prefill.adapter, prefill.tokens)
        usable = min(shared, prefill.coverable)
        if usable > prefill.covered:
            gains.append((prefill, slot, usable))
    if sum(usable - prefill.covered for prefill, _, usable in gains) < WORTHWHILE:
        return []
    for prefill, _, usable in gains:
        prefill.covered = usable
    return [(slot, prefill.slot) for prefill, slot, _ in gains if slot != prefill.slot]


def split_wave(prefills: Sequence[AnyPrefill]) -> tuple[list[AnyPrefill], list[AnyPrefill]]:
    """(those to run now, those that had better wait and start from a prefix that one of these leaves)."""
    now: list[AnyPrefill] = []
    later: list[AnyPrefill] = []
    leader: AnyPrefill | None = None
    previous: AnyPrefill | None = None
    saved = 0
    for prefill in sorted(prefills, key=lambda one: (one.adapter or "", one.adapter is not None, one.tokens)):
        if leader is not None and _gain(leader, prefill) > 0:
            assert previous is not None
            later.append(prefill)
            # What it saves in the end: further waves may bring it up to what it shares with its neighbour.
            saved += _gain(previous, prefill)
        else:
            now.append(prefill)
            leader = prefill
        previous = prefill
    return (now, later) if saved >= WORTHWHILE else (list(prefills), [])


def _gain(source: Prefill, prefill: Prefill) -> int:
    if source.adapter != prefill.adapter:
        return 0
    return min(common_length(source.tokens, prefill.tokens), prefill.coverable) - prefill.covered
