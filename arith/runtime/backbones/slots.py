"""The fast backbone: all lanes in one forward over a pool of KV slots."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import PromptError
from arith.operands.loading import context_window
from arith.runtime.backbones.backbone_stats import BackboneStats
from arith.runtime.backbones.cache import slot_rows
from arith.runtime.backbones.compiled import CompiledSteps
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.head import logits_at
from arith.runtime.backbones.lane import Lane, LaneRequest, check_lengths, check_tokens, new_positions
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.masks import MaskLayout
from arith.runtime.backbones.memory import out_of_memory
from arith.runtime.backbones.opening import SlotOpening
from arith.runtime.backbones.outputs import Outputs
from arith.runtime.backbones.pool import LanePool
from arith.runtime.backbones.ragged import Ragged


class SlotBackbone:
    """Lanes of one set of weights, which run together over the slots of a pool.

    A method that fails, for want of memory too, leaves the open lanes as they were.
    """

    slower: str | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: int,
        layout: MaskLayout,
        adapters: LaneAdapters,
        exits: EarlyExits,
        compiled: CompiledSteps | None = None,
        ragged: bool = False,
    ):
        """`ragged`: whether the model's code takes tokens of all lanes one behind another."""
        self.name = str(model.name_or_path or model.config.model_type)
        self.stats = BackboneStats()
        self.context = context_window(model.config)
        self.device = model.device
        self._model = model
        self._vocabulary = vocabulary
        self._layout = layout
        self._adapters = adapters
        self._exits = exits
        self._compiled = compiled
        self._ragged = ragged
        # Compiled steps have one place more than a lane can use.
        longest = None if self.context is None else self.context + (compiled is not None)
        self._pool = LanePool(longest)

    @property
    def compiles(self) -> bool:
        """Whether its steps are to be compiled."""
        return self._compiled is not None

    @property
    def cache_bytes(self) -> int:
        """The bytes of the keys and values which the pool has room for."""
        return self._pool.cache.nbytes

    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """Prefill; the lanes, and the logits `[keep, vocabulary]` of each (shared: not to be written to).

        Raises `PromptError` for a prompt beyond the context window.
        """
        opening = self.begin(requests)
        opening.advance()
        return opening.lanes, opening.logits

    def begin(self, requests: Sequence[LaneRequest]) -> SlotOpening:
        """Like `open`, but the prompts run with the `advance` of what it gives. Other lanes may be opened,
        stepped and closed meanwhile."""
        self._check_fits(max((len(request.tokens) for request in requests), default=0))
        return SlotOpening(self._pool, self._forward, requests)

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Tensor) -> Tensor:
        """One more token for each lane (int64 `[n]`) in one forward; logits `[n, vocabulary]` in their order.

        Raises `PromptError` where a lane would leave the context window.
        """
        return self._append(lanes, [[token] for token in tokens.tolist()], tokens[:, None])[:, 0]

    @torch.inference_mode()
    def extend(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        """More tokens for each lane, at least one, in one forward; for each lane the logits
        `[n, vocabulary]` after each of its n new tokens.

        Raises `PromptError` where a lane would leave the context window.
        """
        check_tokens(lanes, tokens)
        width = max(map(len, tokens))
        if self._ragged and min(map(len, tokens)) < width:
            return self._append_ragged(lanes, tokens)
        # Padding is the last token at its own position once more, as in a prefill.
        padded = [[*own, *[own[-1]] * (width - len(own))] for own in tokens]
        logits = self._append(lanes, tokens, torch.tensor(padded, device=self.device))
        return [row[: len(own)] for row, own in zip(logits, tokens, strict=True)]

    def crop(self, lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
        """Each lane forgets its tokens beyond the first `length` of them, 0 <= length <= their number."""
        self._pool.check_open(lanes)
        check_lengths(lanes, lengths)
        for lane, length in zip(lanes, lengths, strict=True):
            lane.crop(length)

    @torch.inference_mode()
    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """For each lane the logits `[keep, vocabulary]` of what it keeps of `exit`, all in one go."""
        self._pool.check_open(lanes)
        return self._exits.logits(lanes, exit)

    @torch.inference_mode()
    def close(self, lanes: Sequence[Lane]) -> None:
        """End the lanes. Their keys and values serve as prefixes until their slots are needed."""
        self._pool.check_open(lanes)
        self._pool.close(lanes)
        for lane in lanes:
            lane.early = {}

    def reserve(self, lanes: int, length: int) -> None:
        """Make room for so many lanes of that length if all steps are compiled: programs are made anew for a
        cache that has grown."""
        if self._compiled is not None and self._compiled.required and lanes:
            try:
                self._pool.fit(self._compiled.length(length, self.context) + 1, self._compiled.lanes(lanes))
            except Exception as error:
                if not out_of_memory(error):
                    raise  # else the cache grows as it is needed, by which fewer rows may do

    @torch.inference_mode()
    def trim(self) -> None:
        """Give back the memory of all slots behind the lanes that are open or being opened."""
        self._pool.trim()

    def reset(self) -> None:
        """Close every lane, forget all prefixes and give the memory of the pool back."""
        self._pool.clear()

    def _append(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], padded: Tensor) -> Tensor:
        """Run new tokens of the lanes, `padded` to `[n, width]`; the logits `[n, width, vocabulary]`."""
        order, lengths = self._prepare(lanes, tokens)
        moved = order != list(range(len(lanes)))
        where = torch.tensor(order, device=self.device) if moved else None
        outputs = self._forward(
            [lanes[one] for one in order],
            padded if where is None else padded[where],
            new_positions(lanes, order, lengths, padded.shape[1]),
            None,
            sum(map(len, tokens)),
        )
        for row, one in enumerate(order):
            lanes[one].tokens.extend(tokens[one])
            if outputs.early:
                lanes[one].early = outputs[row][: len(tokens[one])].early
        return outputs.logits if where is None else outputs.logits[torch.argsort(where)]

    def _append_ragged(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        """Run new tokens of the lanes one behind another; the logits `[n, vocabulary]` of each lane's."""
        order, lengths = self._prepare(lanes, tokens)
        counts = [len(own) for own in tokens]
        slots = [lanes[one].slot for one in order]
        where = torch.tensor(slots, device=self.device)
        length = max(lengths)
        at = torch.tensor(new_positions(lanes, order, lengths, max(counts)), device=self.device)
        flat = [
            (lane.slot, len(lane.tokens) + number, token, lane.adapter)
            for lane, own in zip(lanes, tokens, strict=True)
            for number, token in enumerate(own)
        ]
        written, positions, ids = torch.tensor([row[:3] for row in flat], device=self.device).unbind(1)
        self._adapters.select([row[3] for row in flat], 1)
        self._pool.cache.place(written, positions[:, None], slot_rows(slots, where), length)
        with self._exits.capture(None) as early:
            logits = logits_at(
                self._model,
                None,
                input_ids=ids[None],
                attention_mask=self._layout.build(at, length, self._model.dtype),
                position_ids=positions[None],
                past_key_values=self._pool.cache,
                use_cache=True,
                ragged=Ragged.of(counts, order, self.device),
            )
        self.stats.add(len(flat), len(flat))
        found = Outputs(
            logits[0, :, : self._vocabulary].to(self.device), {exit: one[0] for exit, one in early.items()}
        )
        ends = list(accumulate(counts))
        pieces = [found[end - count : end] for end, count in zip(ends, counts, strict=True)]
        for lane, own, piece in zip(lanes, tokens, pieces, strict=True):
            lane.tokens.extend(own)
            if piece.early:
                lane.early = piece.early
        return [piece.logits for piece in pieces]

    def _prepare(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """Makes room for new tokens. The lanes in the order of their slots, in which the pool can be read
        without a copy, and the lengths that they come to have."""
        self._pool.check_open(lanes)
        lengths = [len(lane.tokens) + len(own) for lane, own in zip(lanes, tokens, strict=True)]
        self._check_fits(max(lengths))
        self._pool.fit(max(lengths))
        return sorted(range(len(lanes)), key=lambda one: lanes[one].slot), lengths

    def _forward(
        self,
        lanes: Sequence[Lane],
        tokens: Tensor,
        positions: list[list[int]],
        columns: list[list[int]] | None,
        useful: int,
    ) -> Outputs:
        """Run `tokens` `[lanes, tokens]` at `positions` of the lanes' slots; the outputs at `columns` (None:
        everywhere). `useful` of the tokens aren't padding."""
        slots, adapters = [lane.slot for lane in lanes], [lane.adapter for lane in lanes]
        length = max(map(max, positions)) + 1
        compiled = self._compiled if columns is None and tokens.shape[1] == 1 else None
        if compiled is not None and compiled.takes(len(slots), length, self.context):
            logits = self._compiled_step(compiled, slots, adapters, tokens, positions, length)
            early = {}
        else:
            inputs = self._inputs(slots, adapters, tokens, positions, positions, length)
            chosen = None if columns is None else torch.tensor(columns, device=self.device)
            with self._exits.capture(chosen) as early:
                logits = logits_at(self._model, chosen, **inputs)
        self.stats.add(tokens.numel(), useful)
        return Outputs(logits[..., : self._vocabulary].to(self.device), early)

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
        self._pool.fit(length + 1, behind + padding)
        unused = self._pool.cache.capacity - 1
        inputs = self._inputs(
            [*slots, *range(behind, behind + padding)],
            [*adapters, *adapters[-1:] * padding],
            torch.cat([tokens, tokens[-1:].expand(padding, -1)]),
            [*positions, *positions[-1:] * padding],
            [*positions, *[[unused]] * padding],
            length,
        )
        return compiled(inputs)[:count]

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
        self._adapters.select(adapters, tokens.shape[1])
        at = torch.tensor(positions, device=self.device)
        where = torch.tensor(slots, device=self.device)
        written = torch.tensor(cells, device=self.device)
        self._pool.cache.place(where, written, slot_rows(slots, where), length)
        return {
            "input_ids": tokens.to(self.device),
            "attention_mask": self._layout.build(at, length, self._model.dtype),
            "position_ids": at,
            "past_key_values": self._pool.cache,
            "use_cache": True,
        }

    def _check_fits(self, length: int) -> None:
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
