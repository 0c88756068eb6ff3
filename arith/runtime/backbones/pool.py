"""The pool: which lane is in which slot of the KV cache."""

from collections.abc import Sequence

from arith.runtime.backbones.cache import SlotCache
from arith.runtime.backbones.lane import Lane
from arith.runtime.backbones.memory import left_where_memory_lacks
from arith.runtime.backbones.prefix import PrefixIndex

_FIRST_CAPACITY = 256
_GROWTH = 1.5


class LanePool:
    """Lanes in the slots of a KV cache: open ones, those being opened, and closed ones.

    The open ones fill the slots from 0 on, without a hole; those that were closed when there was no memory to
    fill their holes stay among them until there is. The keys and values of a closed lane serve as prefixes
    until its slot is needed. Of every lane the cache holds the keys and values of its `tokens`.
    """

    def __init__(self, longest: int | None, spare: int = 0):
        """`longest` is the most tokens that a lane may come to have (None: no limit); each slot has room for
        `spare` positions more."""
        self.cache = SlotCache()
        self._expected = (0, 0)  # slots, and positions of each
        self._longest = longest
        self._spare = spare
        self._slots: list[Lane | None] = []
        self._open = 0
        self._closing: set[Lane] = set()  # among the first `_open`
        self._entering: set[Lane] = set()

    def prefixes(self) -> PrefixIndex:
        """An index of all that the cache holds, after lanes that wait to be closed have been."""
        if self._closing:
            with left_where_memory_lacks():
                self._fill_holes()
        return PrefixIndex(
            (lane.adapter, lane.tokens, slot) for slot, lane in enumerate(self._slots) if lane is not None
        )

    def enter(self, adapters: Sequence[str | None], length: int) -> list[Lane]:
        """Lanes to be opened, without tokens so far, each with room for `length`; closed ones make way."""
        taken = {lane.slot for lane in self._entering}
        self._reserve(self._open + len(taken) + len(adapters), length)
        free = (slot for slot in range(self._open, len(self._slots)) if slot not in taken)
        lanes = [Lane(adapter, [], next(free)) for adapter in adapters]
        for lane in lanes:
            self._slots[lane.slot] = lane
        self._entering.update(lanes)
        return lanes

    def admit(self, lanes: Sequence[Lane]) -> None:
        """Those which `enter` gave are open from now on."""
        target = range(self._open, self._open + len(lanes))
        movers = [lane.slot for lane in lanes if lane.slot not in target]
        staying = {lane.slot for lane in lanes}
        self._exchange(movers, [slot for slot in target if slot not in staying])
        self._entering.difference_update(lanes)
        self._open += len(lanes)

    def withdraw(self, lanes: Sequence[Lane]) -> None:
        """Those which `enter` gave won't be opened; what the cache holds of them serves as prefixes."""
        self._entering.difference_update(lanes)

    def close(self, lanes: Sequence[Lane]) -> None:
        """These are open no longer."""
        self._closing.update(lanes)
        with left_where_memory_lacks():
            self._fill_holes()

    def release(self, lanes: Sequence[Lane]) -> None:
        """These are open no longer, and may change: copies of them stand for what the cache holds."""
        copies = [Lane(lane.adapter, list(lane.tokens), lane.slot) for lane in lanes]
        for copy in copies:
            self._slots[copy.slot] = copy
        self.close(copies)

    def fit(self, length: int, slots: int = 0) -> None:
        """Make room for lanes of `length` tokens, and for so many slots."""
        self._reserve(max(len(self._slots), slots), length)

    def expect(self, slots: int, length: int) -> None:
        """So many lanes, of up to `length` tokens, are to come: room is made for no more, until more come."""
        self._expected = (slots, length + self._spare)

    def has_room(self, length: int, slots: int) -> bool:
        """Whether so many lanes of `length` tokens fit in as it is."""
        return self.cache.slots >= slots and self.cache.capacity >= length + self._spare

    def trim(self) -> None:
        """Give back the memory of all slots behind the lanes that are open or being opened, as far as there
        is memory to do so."""
        with left_where_memory_lacks():
            self._fill_holes()
        kept = max([self._open, *(lane.slot + 1 for lane in self._entering)])
        del self._slots[kept:]
        with left_where_memory_lacks():
            self.cache.trim(kept)

    def forget(self) -> None:
        """Forget all lanes; their memory is kept for others."""
        self._slots = [None] * self.cache.slots
        self._expected = (0, 0)
        self._open = 0
        self._closing.clear()
        self._entering.clear()

    def clear(self) -> None:
        """Forget all lanes and give all memory back."""
        self.cache.clear()
        self.forget()

    def check_open(self, lanes: Sequence[Lane]) -> None:
        """Raises `ValueError` unless all are open here, and none is named twice."""
        slots = {lane.slot for lane in lanes}
        if len(slots) != len(lanes) or any(
            not 0 <= lane.slot < self._open or self._slots[lane.slot] is not lane or lane in self._closing
            for lane in lanes
        ):
            raise ValueError("a lane that isn't open in this backbone, or is named twice")

    def check_entering(self, lanes: Sequence[Lane]) -> None:
        """Raises `ValueError` unless all of them have entered, and are neither open nor withdrawn."""
        if not self._entering.issuperset(lanes):
            raise ValueError("these lanes aren't being opened: they are open, cancelled or forgotten")

    def _fill_holes(self) -> None:
        """The last open lanes move into the holes of those that are closing, and these behind all open
        ones."""
        staying = self._open - len(self._closing)
        closing = {lane.slot for lane in self._closing}
        movers = [slot for slot in range(staying, self._open) if slot not in closing]
        self._exchange(movers, sorted(slot for slot in closing if slot < staying))
        self._open = staying
        self._closing.clear()

    def _exchange(self, left: Sequence[int], right: Sequence[int]) -> None:
        """The lanes in the slots `left` change places with those in `right`."""
        sources, targets = [*left, *right], [*right, *left]
        lanes = [self._slots[slot] for slot in sources]
        moves = [
            (lane, source, target)
            for lane, source, target in zip(lanes, sources, targets, strict=True)
            if lane is not None and lane.tokens
        ]
        self.cache.copy(
            [source for _, source, _ in moves],
            [target for _, _, target in moves],
            max((len(lane.tokens) for lane, _, _ in moves), default=0),
        )
        for lane, target in zip(lanes, targets, strict=True):
            self._slots[target] = lane
            if lane is not None:
                lane.slot = target

    def _reserve(self, slots: int, length: int) -> None:
        length += self._spare
        expected_slots, expected_length = self._expected
        if length > self.cache.capacity:
            length = _grown(length, max(_FIRST_CAPACITY, int(_GROWTH * self.cache.capacity)), expected_length)
            length = length if self._longest is None else min(length, self._longest + self._spare)
        if slots > self.cache.slots:
            slots = _grown(slots, int(_GROWTH * self.cache.slots), expected_slots)
        self.cache.reserve(slots, length)
        self._slots.extend([None] * (self.cache.slots - len(self._slots)))


def _grown(needed: int, ample: int, expected: int) -> int:
    """What is needed or, so that it isn't soon too little again, what is ample; but no more than what is
    expected, if that is enough."""
    return min(max(needed, ample), expected) if expected >= needed else max(needed, ample)
