"""One forward of the model for lanes in the slots of a pool."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.operands.loading import context_window
from arith.runtime.backbones.backbone_stats import BackboneStats
from arith.runtime.backbones.cache import slot_rows
from arith.runtime.backbones.compiled import CompiledSteps
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.head import logits_at
from arith.runtime.backbones.lane import Lane, new_positions
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import MaskLayout
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.backbones.outputs import Outputs
from arith.runtime.backbones.pool import LanePool
from arith.runtime.backbones.ragged import Ragged
from arith.runtime.sending import send


class SlotForward:
    """Runs new tokens of lanes, whose keys and values come to stand in the lanes' slots of the pool.

    What it gives are outputs at the positions that are asked for, their logits cut to the vocabulary. The
    lanes come in the order of their slots, in which the pool can be read without a copy, and don't change.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: int,
        layout: MaskLayout,
        adapters: LaneAdapters,
        exits: EarlyExits,
        compiled: CompiledSteps | None = None,
        window: int | None = None,
    ):
        """`window` is the most tokens of a lane (None: the model's own)."""
        self.stats = BackboneStats()
        self.context = window or context_window(model.config)
        self.device = model.device
        self.model = model
        self.adapters = adapters
        self.exits = exits
        self.compiled = compiled
        # Compiled steps need a place in every slot that no lane uses.
        self.pool = LanePool(self.context, spare=0 if compiled is None else 1)
        self._vocabulary = vocabulary
        self._layout = layout
        self._dtype = model.dtype  # kept, since the model looks for it among its parameters

    def __call__(
        self,
        lanes: Sequence[Lane],
        tokens: list[list[int]],
        positions: list[list[int]],
        columns: list[list[int]] | None,
        useful: int,
    ) -> Outputs:
        """Run the lanes' `tokens`, as many of each, at `positions`; the outputs `[lanes, n, ...]` at
        `columns` (None: everywhere). `useful` of the tokens aren't padding."""
        ids = send(tokens, self.device)
        slots, adapters = [lane.slot for lane in lanes], [lane.adapter for lane in lanes]
        length = max(map(max, positions)) + 1
        compiled = self.compiled if columns is None and ids.shape[1] == 1 else None
        if (
            compiled is not None
            and compiled.takes(len(slots), length, self.context)
            and self._has_room_for_padding(compiled, slots, length)
        ):
            logits = self._compiled_step(compiled, slots, adapters, ids, positions, length)
            early = {}
        else:
            inputs = self._inputs(slots, adapters, ids, positions, positions, length)
            chosen = None if columns is None else send(columns, self.device)
            with self.exits.capture(chosen) as early:
                logits = logits_at(self.model, chosen, **inputs)
        self.stats.add(ids.numel(), useful)
        return Outputs(logits[..., : self._vocabulary].to(self.device), early)

    def ragged(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int]
    ) -> list[Outputs]:
        """Run the new `tokens` of all lanes one behind another; for each lane the outputs `[keep, ...]` at
        its last ones."""
        counts = [len(own) for own in tokens]
        flat = [
            (lane.slot, len(lane.tokens) + number, token, lane.adapter)
            for lane, own in zip(lanes, tokens, strict=True)
            for number, token in enumerate(own)
        ]
        written, positions, ids = send([row[:3] for row in flat], self.device).unbind(1)
        seen = send(new_positions(lanes, counts), self.device)
        slots = [lane.slot for lane in lanes]
        rows = slot_rows(slots, send(slots, self.device))
        length = max(len(lane.tokens) + count for lane, count in zip(lanes, counts, strict=True))
        self.adapters.select([row[3] for row in flat], 1)
        self.pool.cache.place(written, positions[:, None], rows, length)
        ends = accumulate(counts)
        wanted = [at for end, kept in zip(ends, keep, strict=True) for at in range(end - kept, end)]
        columns = send([wanted], self.device) if len(wanted) < len(flat) else None
        with self.exits.capture(columns) as early:
            logits = logits_at(
                self.model,
                columns,
                input_ids=ids[None],
                attention_mask=self._layout.build(seen, length, self._dtype),
                position_ids=positions[None],
                past_key_values=self.pool.cache,
                use_cache=True,
                ragged=Ragged.of(counts, self.device),
            )
        self.stats.add(len(flat), len(flat))
        found = Outputs(logits[..., : self._vocabulary].to(self.device), early)[0]
        return [found[end - kept : end] for end, kept in zip(accumulate(keep), keep, strict=True)]

    def _has_room_for_padding(self, compiled: CompiledSteps, slots: list[int], length: int) -> bool:
        """Makes room for what a compiled step pads, which may be more than the lanes themselves take. Where
        memory lacks and compiling is no must, steps are the model's own from now on."""
        lanes, length = compiled.lanes(len(slots)), compiled.length(length, self.context)
        try:
            self.pool.fit(length, slots[-1] + 1 + lanes - len(slots))
        except Exception as error:
            if compiled.required or not out_of_memory(error):
                raise
            compiled.leave("there is no memory for the keys and values of its padding")
            return False
        return True

    def _compiled_step(
        self,
        compiled: CompiledSteps,
        slots: list[int],
        adapters: list[str | None],
        tokens: Tensor,
        positions: list[list[int]],
        length: int,
    ) -> Tensor:
        """The logits `[lanes, 1, vocabulary]`. Padding is the last lane over the slots that follow, so that
        all are read without a copy; it writes to a last place in each that no lane uses."""
        count, padding = len(slots), compiled.lanes(len(slots)) - len(slots)
        length = compiled.length(length, self.context)
        behind = slots[-1] + 1
        unused = self.pool.cache.capacity - 1
        inputs = self._inputs(
            [*slots, *range(behind, behind + padding)],
            [*adapters, *adapters[-1:] * padding],
            torch.cat([tokens, tokens[-1:].expand(padding, -1)]),
            [*positions, *positions[-1:] * padding],
            [*positions, *[[unused]] * padding],
            length,
        )
        return compiled(inputs, self.adapters.absent)[:count]

    def _inputs(
        self,
        slots: list[int],
        adapters: list[str | None],
        tokens: Tensor,
        positions: list[list[int]],
        cells: list[list[int]],
        length: int,
    ) -> dict[str, Any]:
        """The model's inputs for `tokens` at `positions`, whose keys and values are written to the `cells` of
        `slots`, and which see these up to `length`."""
        self.adapters.select(adapters, tokens.shape[1])
        at = send(positions, self.device)
        where = send(slots, self.device)
        written = send(cells, self.device)
        self.pool.cache.place(where, written, slot_rows(slots, where), length)
        return {
            "input_ids": tokens,
            "attention_mask": self._layout.build(at, length, self._dtype),
            "position_ids": at,
            "past_key_values": self.pool.cache,
            "use_cache": True,
        }
