"""Slots for lanes up to a length, plain forwards for those that outgrow it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from arith.runtime.backbones.lane import Lane, LaneRequest, check_lengths, check_tokens
from arith.runtime.backbones.opening import SlotOpening
from arith.runtime.backbones.recompute import RecomputeBackbone, RecomputeOpening
from arith.runtime.backbones.slots import SlotBackbone


class OutgrowingOpening:
    """Lanes being opened in an `OutgrowingBackbone`: the long ones first, which need no slots.

    `places` are the numbers of the requests that go into slots, and of those that don't; once these are open,
    they are `outgrown`.
    """

    def __init__(
        self,
        slots: SlotOpening,
        recompute: RecomputeOpening,
        places: tuple[list[int], list[int]],
        outgrown: set[Lane],
    ):
        self.lanes: list[Lane] = []
        self.logits: list[Tensor] = []
        self._slots = slots
        self._recompute = recompute
        self._places = places
        self._outgrown = outgrown
        self._left: list[RecomputeOpening | SlotOpening] = [recompute, slots] if places[1] else [slots]

    def advance(self, budget: int | None = None) -> bool:
        """Run prompts, about `budget` tokens (None: all); whether that was all.

        After a failure the lanes are as if cancelled. Raises `ValueError` when it has ended before.
        """
        if not self._left:
            raise ValueError("these lanes aren't being opened: they are open or cancelled")
        try:
            while self._left:
                if not self._left[0].advance(budget):
                    return False
                del self._left[0]
                if self._left and budget is not None:
                    return False
        except BaseException:
            self.cancel()
            raise
        numbers = [*self._places[0], *self._places[1]]
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        lanes = [*self._slots.lanes, *self._recompute.lanes]
        logits = [*self._slots.logits, *self._recompute.logits]
        self.lanes, self.logits = [lanes[at] for at in order], [logits[at] for at in order]
        self._outgrown.update(self._recompute.lanes)
        return True

    def cancel(self) -> None:
        """Open none of the lanes."""
        for opening in self._left:
            opening.cancel()
        self._left = []


class OutgrowingBackbone:
    """Lanes of a model whose keys and values hold no longer once a text has more than `window` tokens.

    Till then they are lanes of `slots`; one that comes to be longer leaves its slot, and is a lane of
    `recompute` from then on. A method that fails, for want of memory too, leaves the open lanes as they were,
    but for their slots.
    """

    slower: str | None = None

    def __init__(self, slots: SlotBackbone, recompute: RecomputeBackbone, window: int):
        self.model = slots.model
        self.name = slots.name
        self.context = recompute.context
        self.most_cached: int | None = window
        self.device = slots.device
        self.adapters = slots.adapters
        self.stats = recompute.stats = slots.stats
        self._slots = slots
        self._recompute = recompute
        self._window = window
        self._outgrown: set[Lane] = set()

    @property
    def compiles(self) -> bool:
        """Whether the steps of lanes in slots are to be compiled."""
        return self._slots.compiles

    @property
    def cache_bytes(self) -> int:
        """The bytes of the keys and values which the slots have room for."""
        return self._slots.cache_bytes

    @property
    def note(self) -> str | None:
        """What is slower than elsewhere."""
        texts = f"texts of more than {self._window} tokens"
        return f"{self.name} runs {texts} one at a time and without a cache: {self._recompute.slower}"

    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """Prefill; the lanes, and the logits `[keep, vocabulary]` of each (shared: not to be written to)."""
        opening = self.begin(requests)
        opening.advance()
        return opening.lanes, opening.logits

    def begin(self, requests: Sequence[LaneRequest]) -> OutgrowingOpening:
        """Like `open`, but the prompts run with the `advance` of what it gives."""
        long = [len(request.tokens) > self._window for request in requests]
        places = ([n for n, one in enumerate(long) if not one], [n for n, one in enumerate(long) if one])
        short, rest = ([requests[n] for n in numbers] for numbers in places)
        recompute = self._recompute.begin(rest)
        return OutgrowingOpening(self._slots.begin(short), recompute, places, self._outgrown)

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Sequence[int]) -> Tensor:
        """One more token for each lane; logits `[n, vocabulary]` in their order."""
        if not any(lane in self._outgrown or len(lane.tokens) >= self._window for lane in lanes):
            return self._slots.step(lanes, tokens)
        return torch.cat(self.extend(lanes, [[token] for token in tokens]))

    @torch.inference_mode()
    def extend(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> list[Tensor]:
        """More tokens for each lane, at least one; for each lane the logits `[keep, vocabulary]` after its
        last new tokens (None: after all of them)."""
        kept = check_tokens(lanes, tokens, keep)
        longer = [one for one, own in zip(lanes, tokens, strict=True) if self._outgrows(one, len(own))]
        self._slots.release(longer)
        self._outgrown.update(longer)
        short, long = self._apart(lanes)
        before = [(lanes[n], len(lanes[n].tokens), lanes[n].early) for n in long]
        logits = dict(zip(long, self._recompute.extend(*_chosen(long, lanes, tokens, kept)), strict=True))
        try:
            if short:
                more = self._slots.extend(*_chosen(short, lanes, tokens, kept))
                logits.update(zip(short, more, strict=True))
        except BaseException:
            for lane, length, early in before:
                lane.crop(length)
                lane.early = early
            raise
        return [logits[number] for number in range(len(lanes))]

    def crop(self, lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
        """Each lane forgets its tokens beyond the first `length` of them, 0 <= length <= their number."""
        check_lengths(lanes, lengths)
        short, long = self._apart(lanes)
        self._slots.crop([lanes[n] for n in short], [lengths[n] for n in short])
        self._recompute.crop([lanes[n] for n in long], [lengths[n] for n in long])

    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """For each lane the logits `[keep, vocabulary]` of what it keeps of `exit`."""
        return self._recompute.early_logits(lanes, exit)

    def close(self, lanes: Sequence[Lane]) -> None:
        """End the lanes."""
        short, long = self._apart(lanes)
        self._slots.close([lanes[n] for n in short])
        self._recompute.close([lanes[n] for n in long])
        self._outgrown.difference_update(lanes)

    def reserve(self, lanes: int, length: int) -> None:
        """So many lanes of up to that length are to come, in slots as far as these take them."""
        self._slots.reserve(lanes, min(length, self._window))

    def trim(self) -> None:
        """Give back what memory can be had without the lanes that are open or being opened."""
        self._slots.trim()

    def forget(self) -> None:
        """Forget every lane. The memory of the slots is freed, unless programs have been made for it."""
        self._outgrown.clear()
        self._slots.forget()

    def reset(self) -> None:
        """Forget every lane and free the memory of the slots."""
        self._outgrown.clear()
        self._slots.reset()

    def _outgrows(self, lane: Lane, more: int) -> bool:
        return lane not in self._outgrown and len(lane.tokens) + more > self._window

    def _apart(self, lanes: Sequence[Lane]) -> tuple[list[int], list[int]]:
        """The numbers of the lanes in slots, and of the others."""
        outgrown = [lane in self._outgrown for lane in lanes]
        return [n for n, one in enumerate(outgrown) if not one], [n for n, one in enumerate(outgrown) if one]


def _chosen(
    numbers: Sequence[int], lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int]
) -> tuple[list[Lane], list[Sequence[int]], list[int]]:
    return [lanes[n] for n in numbers], [tokens[n] for n in numbers], [keep[n] for n in numbers]
