"""The fast backbone: all lanes in one forward over a pool of KV slots."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import PromptError
from arith.operands.loading import context_window
from arith.runtime.backbone_stats import BackboneStats
from arith.runtime.bucket import CHUNK, buckets
from arith.runtime.cache import SlotCache
from arith.runtime.early import EarlyExits
from arith.runtime.head import logits_at
from arith.runtime.lane import Lane, LaneRequest
from arith.runtime.lora import LaneAdapters
from arith.runtime.masks import MaskLayout
from arith.runtime.outputs import Outputs
from arith.runtime.prefix import Prefill, PrefixIndex, cover, split_wave

_FIRST_CAPACITY = 256
_GROWTH = 1.5


class SlotBackbone:
    """Lanes of one set of weights. The open ones fill the slots from 0 on, without a hole.

    Slots behind them may hold closed lanes: their keys and values serve as prefixes until overwritten.
    """

    slower: str | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: int,
        layout: MaskLayout,
        adapters: LaneAdapters,
        exits: EarlyExits,
    ):
        self.name = str(model.name_or_path or model.config.model_type)
        self.stats = BackboneStats()
        self.context = context_window(model.config)
        self.device = model.device
        self._model = model
        self._vocabulary = vocabulary
        self._layout = layout
        self._adapters = adapters
        self._exits = exits
        self._cache = SlotCache()
        self._slots: list[Lane | None] = []
        self._open = 0

    @torch.inference_mode()
    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """Prefill; the lanes, and the logits `[keep, vocabulary]` of each (shared: not to be written to).

        Raises `PromptError` for a prompt beyond the context window.
        """
        if not requests:
            return [], []
        index = PrefixIndex(
            (lane.adapter, lane.tokens, slot) for slot, lane in enumerate(self._slots) if lane is not None
        )
        lanes = [
            Lane(request.adapter, list(request.tokens), self._open + number)
            for number, request in enumerate(requests)
        ]
        self._reserve(self._open + len(lanes), max(len(lane.tokens) for lane in lanes))
        self._slots[self._open : self._open + len(lanes)] = [None] * len(lanes)
        prefills: dict[tuple[str | None, tuple[int, ...]], Prefill] = {}
        for lane, request in zip(lanes, requests, strict=True):
            first = prefills.setdefault(
                (request.adapter, request.tokens),
                Prefill(request.adapter, request.tokens, lane.slot, request.keep),
            )
            first.keep = max(first.keep, request.keep)
        outputs = self._prefill(list(prefills.values()), index)
        answers: list[Tensor] = []
        copies: list[tuple[int, int]] = []
        for lane, request in zip(lanes, requests, strict=True):
            first = prefills[request.adapter, request.tokens]
            if first.slot != lane.slot:
                copies.append((first.slot, lane.slot))
            kept = outputs[first][first.keep - request.keep :]
            lane.early = kept.early
            answers.append(kept.logits)
        self._copy(copies, max(len(lane.tokens) for lane in lanes))
        self._slots[self._open : self._open + len(lanes)] = lanes
        self._open += len(lanes)
        return lanes, answers

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Tensor) -> Tensor:
        """One more token for each lane (int64 `[n]`) in one forward; logits `[n, vocabulary]` in their order.

        Raises `PromptError` where a lane would leave the context window.
        """
        self._check_open(lanes)
        order = sorted(range(len(lanes)), key=lambda one: lanes[one].slot)
        ordered = [lanes[one] for one in order]
        length = max(len(lane.tokens) for lane in lanes) + 1
        self._reserve(len(self._slots), length)
        new_tokens = tokens.tolist()
        moved = order != list(range(len(lanes)))
        where = torch.tensor(order, device=self.device) if moved else None
        outputs = self._forward(
            [lane.slot for lane in ordered],
            [lane.adapter for lane in ordered],
            (tokens if where is None else tokens[where])[:, None],
            torch.tensor([[len(lane.tokens)] for lane in ordered], device=self.device),
            length,
            columns=None,
        )
        self.stats.add(len(lanes), len(lanes))
        for lane, token in zip(lanes, new_tokens, strict=True):
            lane.tokens.append(token)
        if outputs.early:
            for row, lane in enumerate(ordered):
                lane.early = outputs[row].early
        logits = outputs.logits[:, 0]
        if where is None:
            return logits
        return logits[torch.argsort(where)]

    @torch.inference_mode()
    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """For each lane the logits `[keep, vocabulary]` of what it keeps of `exit`, all in one go."""
        self._check_open(lanes)
        return self._exits.logits(lanes, exit)

    @torch.inference_mode()
    def close(self, lanes: Sequence[Lane]) -> None:
        """End the lanes. The last open ones move into the holes, and the closed ones behind all open ones."""
        self._check_open(lanes)
        for lane in lanes:
            lane.early = {}
        staying = self._open - len(lanes)
        holes = sorted(lane.slot for lane in lanes if lane.slot < staying)
        closing = {lane.slot for lane in lanes}
        movers = [slot for slot in range(staying, self._open) if slot not in closing]
        swapped = [self._lane(slot) for slot in (*holes, *movers)]
        if swapped:
            length = max(len(lane.tokens) for lane in swapped)
            self._cache.copy([*holes, *movers], [*movers, *holes], length)
        for lane, slot in zip(swapped, [*movers, *holes], strict=True):
            self._slots[slot] = lane
            lane.slot = slot
        self._open = staying

    def reset(self) -> None:
        """Close every lane, forget all prefixes and give the memory of the pool back."""
        self._cache.clear()
        self._slots = []
        self._open = 0

    def _prefill(self, prefills: list[Prefill], index: PrefixIndex) -> dict[Prefill, Outputs]:
        """Run what no slot holds yet, in waves: those of a later one start from prefixes of those before."""
        outputs: dict[Prefill, Outputs] = {}
        waiting = prefills
        while waiting:
            self._copy(cover(index, waiting), max(one.covered for one in waiting))
            now, waiting = split_wave(waiting)
            for bucket in buckets([one.rest for one in now]):
                group = sorted((now[one] for one in bucket), key=lambda one: one.slot)
                outputs.update(zip(group, self._run(group), strict=True))
            index = PrefixIndex((one.adapter, one.tokens, one.slot) for one in now)
        return outputs

    def _run(self, group: list[Prefill]) -> list[Outputs]:
        """Run the rest of each prefill, chunk by chunk; the outputs of the last `keep` positions of each.

        A shorter one is padded with its last token at that token's own position: the padding writes the same
        keys and values there once more.
        """
        longest = max(one.rest for one in group)
        last = [len(one.tokens) - 1 for one in group]
        spans = [
            [min(one.covered + at, end) for at in range(longest)]
            for one, end in zip(group, last, strict=True)
        ]
        positions = torch.tensor(spans, device=self.device)
        tokens = torch.tensor(
            [[one.tokens[at] for at in span] for one, span in zip(group, spans, strict=True)],
            device=self.device,
        )
        pieces: list[list[Outputs]] = [[] for _ in group]
        for start in range(0, longest, CHUNK):
            stop = min(start + CHUNK, longest)
            wanted = [range(max(one.rest - one.keep, start), min(one.rest, stop)) for one in group]
            width = max(1, *(len(columns) for columns in wanted))
            columns = [[*(at - start for at in one), *[0] * (width - len(one))] for one in wanted]
            outputs = self._forward(
                [one.slot for one in group],
                [one.adapter for one in group],
                tokens[:, start:stop],
                positions[:, start:stop],
                max(span[stop - 1] for span in spans) + 1,
                torch.tensor(columns, device=self.device),
            )
            useful = sum(max(0, min(one.rest, stop) - start) for one in group)
            self.stats.add(len(group) * (stop - start), useful)
            for row, (piece, columns_of) in enumerate(zip(pieces, wanted, strict=True)):
                if columns_of:
                    piece.append(outputs[row][: len(columns_of)])
        return [Outputs.join(piece) for piece in pieces]

    def _forward(
        self,
        slots: list[int],
        adapters: list[str | None],
        tokens: Tensor,
        positions: Tensor,
        length: int,
        columns: Tensor | None,
    ) -> Outputs:
        """Run `tokens` `[rows, tokens]` at `positions` of their slots; the outputs at `columns`."""
        self._adapters.select(adapters, tokens.shape[1])
        at = torch.tensor(slots, device=self.device)
        self._cache.place(at, positions, _rows(slots, at), length)
        with self._exits.capture(columns) as early:
            logits = logits_at(
                self._model,
                columns,
                input_ids=tokens,
                attention_mask=self._layout.build(positions, length, self._model.dtype),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            )
        return Outputs(logits[..., : self._vocabulary].to(self.device), early)

    def _reserve(self, slots: int, length: int) -> None:
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
        capacity = self._cache.capacity
        if length > capacity:
            capacity = max(length, int(_GROWTH * capacity), _FIRST_CAPACITY)
            capacity = capacity if self.context is None else min(capacity, self.context)
        if slots > self._cache.slots:
            slots = max(slots, int(_GROWTH * self._cache.slots))
        self._cache.reserve(slots, capacity)
        self._slots.extend([None] * (self._cache.slots - len(self._slots)))

    def _copy(self, pairs: list[tuple[int, int]], length: int) -> None:
        self._cache.copy([source for source, _ in pairs], [target for _, target in pairs], length)

    def _lane(self, slot: int) -> Lane:
        lane = self._slots[slot]
        assert lane is not None
        return lane

    def _check_open(self, lanes: Sequence[Lane]) -> None:
        slots = {lane.slot for lane in lanes}
        if len(slots) != len(lanes) or any(
            not 0 <= lane.slot < self._open or self._slots[lane.slot] is not lane for lane in lanes
        ):
            raise ValueError("a lane that isn't open in this backbone, or is named twice")


def _rows(slots: list[int], at: Tensor) -> slice | Tensor:
    """The slots as a slice, which reads them without a copy, where they are evenly spaced and ascending."""
    stride = slots[1] - slots[0] if len(slots) > 1 else 1
    if stride > 0 and all(right - left == stride for left, right in pairwise(slots)):
        return slice(slots[0], slots[-1] + 1, stride)
    return at
