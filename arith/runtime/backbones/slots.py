"""The fast backbone: all lanes in one forward over a pool of KV slots."""

from collections.abc import Sequence

import torch
from torch import Tensor

from arith.errors import PromptError
from arith.runtime.backbones.lane import Lane, LaneRequest, check_lengths, check_tokens, new_positions
from arith.runtime.backbones.opening import SlotOpening
from arith.runtime.backbones.slot_forward import SlotForward
from arith.runtime.sending import send


class SlotBackbone:
    """Lanes of one set of weights, which run together over the slots of a pool.

    A method that fails, for want of memory too, leaves the open lanes as they were.
    """

    slower: str | None = None
    note: str | None = None

    def __init__(self, forward: SlotForward, ragged: bool = False):
        """`ragged`: whether the model's code takes tokens of all lanes one behind another."""
        self.model = forward.model
        self.name = str(self.model.name_or_path or self.model.config.model_type)
        self.context = self.most_cached = forward.context
        self.device = forward.device
        self.adapters = forward.adapters
        self.stats = forward.stats
        self._forward = forward
        self._exits = forward.exits
        self._compiled = forward.compiled
        self._pool = forward.pool
        self._ragged = ragged

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

    @torch.inference_mode()
    def begin(self, requests: Sequence[LaneRequest]) -> SlotOpening:
        """Like `open`, but the prompts run with the `advance` of what it gives. Other lanes may be opened,
        stepped and closed meanwhile."""
        self._check_fits(max((len(request.tokens) for request in requests), default=0))
        return SlotOpening(self._pool, self._forward, requests)

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Sequence[int]) -> Tensor:
        """One more token for each lane in one forward; logits `[n, vocabulary]` in their order.

        Raises `PromptError` where a lane would leave the context window.
        """
        return self._append(lanes, [[token] for token in tokens], [1] * len(lanes))[:, 0]

    @torch.inference_mode()
    def extend(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> list[Tensor]:
        """More tokens for each lane, at least one, in one forward; for each lane the logits
        `[keep, vocabulary]` after its last new tokens (None: after all of them).

        Raises `PromptError` where a lane would leave the context window.
        """
        kept = check_tokens(lanes, tokens, keep)
        if self._ragged and len(set(map(len, tokens))) > 1:
            return self._append_ragged(lanes, tokens, kept)
        logits = self._append(lanes, tokens, kept)
        return [row[:count] for row, count in zip(logits, kept, strict=True)]

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

    @torch.inference_mode()
    def release(self, lanes: Sequence[Lane]) -> None:
        """End the lanes, which go on elsewhere: their tokens and early exits stay as they are."""
        self._pool.check_open(lanes)
        self._pool.release(lanes)

    def reserve(self, lanes: int, length: int) -> None:
        """So many lanes of up to that length are to come: memory grows no further than for these. Where steps
        are compiled, room is made for them at once: programs are made for a cache of one size."""
        compiled = self._compiled
        if compiled is None or not lanes or not (compiled.required or compiled.bound_to_cache):
            self._pool.expect(lanes, length)
            return
        lanes, length = compiled.lanes(lanes), compiled.length(length, self.context)
        if not self._pool.has_room(length, lanes):
            self._pool.clear()  # or many short slots would become as many long ones
            self._pool.fit(length, lanes)

    @torch.inference_mode()
    def trim(self) -> None:
        """Give back the memory of all slots behind the lanes that are open or being opened, as far as there
        is memory to do so."""
        self._pool.trim()

    def forget(self) -> None:
        """Close every lane and forget all prefixes. The memory of the pool is given back, unless programs
        have been made for it."""
        if self._compiled is not None and self._compiled.bound_to_cache:
            self._pool.forget()
        else:
            self._pool.clear()

    def reset(self) -> None:
        """Close every lane, forget all prefixes and give the memory of the pool back."""
        self._pool.clear()

    def _append(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int]) -> Tensor:
        """Run new tokens of the lanes, padded; the logits `[n, most, vocabulary]` of the last ones that each
        keeps, and of its last one again up to the most that one keeps."""
        order = self._make_room(lanes, tokens)
        ordered = [lanes[one] for one in order]
        counts = [len(tokens[one]) for one in order]
        width, most = max(counts), max(keep)
        # Padding is the last token at its own position once more, as in a prefill.
        padded = [[*tokens[one], *[tokens[one][-1]] * (width - len(tokens[one]))] for one in order]
        kept = [
            [min(n - keep[one] + at, n - 1) for at in range(most)]
            for one, n in zip(order, counts, strict=True)
        ]
        outputs = self._forward(
            ordered,
            padded,
            new_positions(ordered, counts),
            None if [keep[one] for one in order] == counts == [width] * len(lanes) else kept,
            sum(counts),
        )
        logits = outputs.logits
        if order != list(range(len(lanes))):
            rows = sorted(range(len(order)), key=lambda row: order[row])
            logits = logits[send(rows, self.device)]
        for row, one in enumerate(order):
            lanes[one].tokens.extend(tokens[one])
            if outputs.early:
                lanes[one].early = outputs[row][: keep[one]].early
        return logits

    def _append_ragged(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int]
    ) -> list[Tensor]:
        """Run new tokens of the lanes without padding; the logits `[keep, vocabulary]` of each lane."""
        order = self._make_room(lanes, tokens)
        outputs = self._forward.ragged(
            [lanes[one] for one in order], [tokens[one] for one in order], [keep[one] for one in order]
        )
        for one, own in zip(order, outputs, strict=True):
            lanes[one].tokens.extend(tokens[one])
            lanes[one].early = own.early
        found = dict(zip(order, outputs, strict=True))
        return [found[one].logits for one in range(len(lanes))]

    def _make_room(self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]]) -> list[int]:
        """Makes room for new tokens. The lanes' numbers in the order of their slots."""
        self._pool.check_open(lanes)
        length = max(len(lane.tokens) + len(own) for lane, own in zip(lanes, tokens, strict=True))
        self._check_fits(length)
        self._pool.fit(length)
        return sorted(range(len(lanes)), key=lambda one: lanes[one].slot)

    def _check_fits(self, length: int) -> None:
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
