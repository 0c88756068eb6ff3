"""An opening: prompts on their way into slots, run slice by slice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arith.runtime.backbones.bucket import CHUNK, buckets
from arith.runtime.backbones.lane import Lane, LaneRequest
from arith.runtime.backbones.outputs import Outputs
from arith.runtime.backbones.pool import LanePool
from arith.runtime.backbones.prefix import Prefill, PrefixIndex, cover, split_wave

# Runs these lanes' tokens, as many of each, at these positions: the outputs at these columns. The last
# argument is how many of the tokens aren't padding.
Forward = Callable[[Sequence[Lane], list[list[int]], list[list[int]], list[list[int]], int], Outputs]


@dataclass(eq=False, kw_only=True)
class _LanePrefill(Prefill):
    """A prompt that runs in `lane`, with what was kept of its slices so far."""

    lane: Lane
    pieces: list[Outputs] = field(default_factory=list)


class SlotOpening:
    """Lanes being opened in a `SlotBackbone`.

    Prompts run in waves, those of a later one from prefixes which earlier ones leave. A wave's prompts run in
    groups of nearly equal length. Equal prompts run once.
    """

    def __init__(self, pool: LanePool, forward: Forward, requests: Sequence[LaneRequest]):
        self.lanes: list[Lane] = []
        self.logits: list[Tensor] = []
        self._pool = pool
        self._forward = forward
        self._requests = list(requests)
        self._prefills: dict[tuple[str | None, tuple[int, ...]], _LanePrefill] = {}
        self._groups: list[list[_LanePrefill]] = []
        self._waiting: list[_LanePrefill] = []
        if not requests:
            return
        index = pool.prefixes()  # before closed lanes make way
        adapters = [request.adapter for request in requests]
        self.lanes = pool.enter(adapters, max(len(request.tokens) for request in requests))
        for lane, request in zip(self.lanes, requests, strict=True):
            key = (request.adapter, request.tokens)
            if key not in self._prefills:
                self._prefills[key] = _LanePrefill(*key, lane.slot, request.keep, lane=lane)
            self._prefills[key].keep = max(self._prefills[key].keep, request.keep)
        self._waiting = list(self._prefills.values())
        try:
            self._begin_wave(index)
        except BaseException:
            self.cancel()
            raise

    @torch.inference_mode()
    def advance(self, budget: int | None = None) -> bool:
        """Run about `budget` tokens (None: all that are left), at least one forward; whether that was all.

        Goes on while half of the budget is left: a forward of few tokens costs nearly as much as one of more.
        After a failure the lanes are as if cancelled. Raises `ValueError` when it has ended before.
        """
        self._pool.check_entering(self.lanes)
        spent = 0
        try:
            while self._groups and (budget is None or 2 * spent <= budget):
                group = self._groups[0]
                spent += self._run(group, CHUNK if budget is None else (budget - spent) // len(group))
                if not any(one.rest for one in group):
                    del self._groups[0]
                if not self._groups and self._waiting:
                    self._begin_wave(self._pool.prefixes())
            if not self._groups:
                self._finish()
        except BaseException:
            self.cancel()
            raise
        return not self._groups

    def cancel(self) -> None:
        """Open none of the lanes. What was run of them serves as prefixes."""
        self._pool.withdraw(self.lanes)
        self._prefills, self._groups, self._waiting = {}, [], []

    @torch.inference_mode()
    def _begin_wave(self, index: PrefixIndex) -> None:
        for one in self._waiting:
            one.slot = one.lane.slot  # lanes that were opened meanwhile may have moved it
        copies = cover(index, self._waiting)
        self._pool.cache.copy(
            [source for source, _ in copies],
            [target for _, target in copies],
            max(one.covered for one in self._waiting),
        )
        for one in self._waiting:
            one.lane.tokens[:] = one.tokens[: one.covered]
        now, self._waiting = split_wave(self._waiting)
        self._groups = [[now[at] for at in bucket] for bucket in buckets([one.rest for one in now])]

    def _run(self, group: list[_LanePrefill], limit: int) -> int:
        """Run the next tokens of each, about `limit`; how many that were in all.

        A shorter one is padded with its last token at that token's own position: the padding writes the same
        keys and values there once more.
        """
        group = sorted(group, key=lambda one: one.lane.slot)
        width = min(max(1, limit), CHUNK, max(one.rest for one in group))
        ends = [min(one.covered + width, len(one.tokens)) for one in group]
        spans = [[min(one.covered + at, len(one.tokens) - 1) for at in range(width)] for one in group]
        wanted = [
            range(max(len(one.tokens) - one.keep, one.covered), end)
            for one, end in zip(group, ends, strict=True)
        ]
        most = max(1, *(len(positions) for positions in wanted))
        columns = [
            [*(at - one.covered for at in positions), *[0] * (most - len(positions))]
            for one, positions in zip(group, wanted, strict=True)
        ]
        tokens = [[one.tokens[at] for at in span] for one, span in zip(group, spans, strict=True)]
        useful = sum(end - one.covered for one, end in zip(group, ends, strict=True))
        outputs = self._forward([one.lane for one in group], tokens, spans, columns, useful)
        for row, (one, positions, end) in enumerate(zip(group, wanted, ends, strict=True)):
            if positions:
                one.pieces.append(outputs[row][: len(positions)])
            one.covered = end
            one.lane.tokens[:] = one.tokens[:end]
        return len(group) * width

    def _finish(self) -> None:
        first = [self._prefills[request.adapter, request.tokens] for request in self._requests]
        copies = [
            (one.lane, lane) for one, lane in zip(first, self.lanes, strict=True) if one.lane is not lane
        ]
        self._pool.cache.copy(
            [source.slot for source, _ in copies],
            [target.slot for _, target in copies],
            max((len(source.tokens) for source, _ in copies), default=0),
        )
        outputs = {one: Outputs.join(one.pieces) for one in self._prefills.values()}
        kept = [
            outputs[one][one.keep - request.keep :]
            for one, request in zip(first, self._requests, strict=True)
        ]
        for lane, request, own in zip(self.lanes, self._requests, kept, strict=True):
            lane.tokens[:] = request.tokens
            lane.early = own.early
        self._pool.admit(self.lanes)
        self.logits = [own.logits for own in kept]
