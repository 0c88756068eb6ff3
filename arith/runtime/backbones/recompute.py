"""The slow backbone, right for every causal model: no cache, each lane in a plain forward of its own."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import PromptError
from arith.operands.loading import context_window
from arith.runtime.backbones.backbone_stats import BackboneStats
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.head import logits_at, without_cache
from arith.runtime.backbones.lane import Lane, LaneRequest, check_lengths, check_tokens
from arith.runtime.backbones.longrope import turning_lengths
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.outputs import Outputs
from arith.runtime.sending import send


class RecomputeOpening:
    """Lanes being opened in a `RecomputeBackbone`: a prompt is run as a whole, and equal ones once."""

    def __init__(
        self, run: Callable[[str | None, Sequence[int], int], Outputs], requests: Sequence[LaneRequest]
    ):
        self.lanes: list[Lane] = []
        self.logits: list[Tensor] = []
        self._run = run
        self._requests = list(requests)
        self._waiting = list(dict.fromkeys(requests))
        self._outputs: dict[LaneRequest, Outputs] = {}
        self._ended = False

    @torch.inference_mode()
    def advance(self, budget: int | None = None) -> bool:
        """Run prompts while half of the budget (None: no limit) is left, at least one; whether that was all.

        After a failure the lanes are as if cancelled. Raises `ValueError` when it has ended before.
        """
        if self._ended:
            raise ValueError("these lanes aren't being opened: they are open or cancelled")
        spent = 0
        while self._waiting and (budget is None or 2 * spent <= budget):
            request = self._waiting[0]
            try:
                self._outputs[request] = self._run(request.adapter, request.tokens, request.keep)
            except BaseException:
                self.cancel()
                raise
            del self._waiting[0]
            spent += len(request.tokens)
        if self._waiting:
            return False
        outputs = [self._outputs[request] for request in self._requests]
        self.lanes = [
            Lane(request.adapter, list(request.tokens), early=own.early)
            for request, own in zip(self._requests, outputs, strict=True)
        ]
        self.logits = [own.logits for own in outputs]
        self._ended = True
        return True

    def cancel(self) -> None:
        """Open none of the lanes."""
        self._ended = True
        self._outputs = {}


class RecomputeBackbone:
    """Lanes of a model which slots can't serve; `slower` says why.

    A method that fails, for want of memory too, leaves the open lanes as they were.
    """

    cache_bytes = 0
    most_cached: int | None = 0
    compiles = False

    def __init__(
        self,
        model: PreTrainedModel,
        vocabulary: int,
        adapters: LaneAdapters,
        exits: EarlyExits,
        slower: str,
    ):
        self.name = str(model.name_or_path or model.config.model_type)
        self.stats = BackboneStats()
        self.context = context_window(model.config)
        self.device = model.device
        self.slower: str | None = slower
        self.model = model
        self._vocabulary = vocabulary
        self.adapters = adapters
        self._exits = exits
        self._options = without_cache(model)
        self._turning_lengths = turning_lengths(model.config)

    @property
    def note(self) -> str | None:
        """What is slower than elsewhere."""
        return f"{self.name} runs one lane at a time and without a cache: {self.slower}"

    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """The lanes and for each the logits `[keep, vocabulary]`; equal requests are run once."""
        opening = self.begin(requests)
        opening.advance()
        return opening.lanes, opening.logits

    def begin(self, requests: Sequence[LaneRequest]) -> RecomputeOpening:
        """Like `open`, but the prompts run with the `advance` of what it gives."""
        self._check_fits(max((len(request.tokens) for request in requests), default=0))
        return RecomputeOpening(self._outputs, requests)

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Sequence[int]) -> Tensor:
        """One more token for each lane; logits `[n, vocabulary]`, a forward for each lane."""
        return torch.cat(self.extend(lanes, [[token] for token in tokens]))

    @torch.inference_mode()
    def extend(
        self, lanes: Sequence[Lane], tokens: Sequence[Sequence[int]], keep: Sequence[int] | None = None
    ) -> list[Tensor]:
        """More tokens for each lane, at least one; for each lane the logits `[keep, vocabulary]` after its
        last new tokens (None: after all of them), from a forward of its own."""
        kept = check_tokens(lanes, tokens, keep)
        outputs = [
            self._outputs(lane.adapter, (*lane.tokens, *own), count)
            for lane, own, count in zip(lanes, tokens, kept, strict=True)
        ]
        for lane, own, found in zip(lanes, tokens, outputs, strict=True):
            lane.tokens.extend(own)
            lane.early = found.early
        return [found.logits for found in outputs]

    def crop(self, lanes: Sequence[Lane], lengths: Sequence[int]) -> None:
        """Each lane forgets its tokens beyond the first `length` of them, 0 <= length <= their number."""
        check_lengths(lanes, lengths)
        for lane, length in zip(lanes, lengths, strict=True):
            lane.crop(length)

    @torch.inference_mode()
    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """For each lane the logits `[keep, vocabulary]` of what it keeps of `exit`."""
        return self._exits.logits(lanes, exit)

    def close(self, lanes: Sequence[Lane]) -> None:
        """Nothing is kept for a lane but its tokens and what it has of early exits."""
        for lane in lanes:
            lane.early = {}

    def reserve(self, lanes: int, length: int) -> None:
        """There is no pool to fill."""

    def trim(self) -> None:
        """There is no pool to trim."""

    def forget(self) -> None:
        """There is no pool to free."""

    def reset(self) -> None:
        """There is no pool to free."""

    def _outputs(self, adapter: str | None, tokens: Sequence[int], keep: int) -> Outputs:
        """What stands behind the last `keep` tokens: the same as if one token had followed the other, even
        where a longer text turns its beginning by other angles."""
        length = len(tokens)
        self._check_fits(length)
        done, pieces = length - keep, []
        for end in (*self._turning_lengths, length):
            if done < end <= length:
                pieces.append(self._forward(adapter, tokens[:end], end - done))
                done = end
        return Outputs.join(pieces)

    def _forward(self, adapter: str | None, tokens: Sequence[int], keep: int) -> Outputs:
        length = len(tokens)
        self.adapters.select([adapter], length)
        columns = torch.arange(length - keep, length, device=self.device)[None]
        with self._exits.capture(columns) as early:
            logits = logits_at(
                self.model,
                columns,
                input_ids=send([list(tokens)], self.device),
                **self._options,
            )
        self.stats.add(length, length)
        return Outputs(logits[..., : self._vocabulary].to(self.device), early)[0]

    def _check_fits(self, length: int) -> None:
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
