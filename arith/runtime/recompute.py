"""The slow backbone, right for every causal model: no cache, each lane in a plain forward of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import PromptError
from arith.operands.loading import context_window
from arith.runtime.backbone_stats import BackboneStats
from arith.runtime.early import EarlyExits
from arith.runtime.head import logits_at, without_cache
from arith.runtime.lane import Lane, LaneRequest
from arith.runtime.lora import LaneAdapters
from arith.runtime.outputs import Outputs


class RecomputeBackbone:
    """Lanes of a model which slots can't serve; `slower` says why."""

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
        self._model = model
        self._vocabulary = vocabulary
        self._adapters = adapters
        self._exits = exits
        self._options = without_cache(model)

    @torch.inference_mode()
    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """The lanes and for each the logits `[keep, vocabulary]`; equal requests are run once."""
        outputs = {
            request: self._outputs(request.adapter, request.tokens, request.keep)
            for request in dict.fromkeys(requests)
        }
        lanes = [
            Lane(request.adapter, list(request.tokens), early=outputs[request].early) for request in requests
        ]
        return lanes, [outputs[request].logits for request in requests]

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Tensor) -> Tensor:
        """One more token for each lane (int64 `[n]`); logits `[n, vocabulary]`, a forward for each lane."""
        logits: list[Tensor] = []
        for lane, token in zip(lanes, tokens.tolist(), strict=True):
            outputs = self._outputs(lane.adapter, (*lane.tokens, token), 1)
            logits.append(outputs.logits)
            lane.early = outputs.early
            lane.tokens.append(token)
        return torch.cat(logits)

    @torch.inference_mode()
    def early_logits(self, lanes: Sequence[Lane], exit: int) -> list[Tensor]:
        """For each lane the logits `[keep, vocabulary]` of what it keeps of `exit`."""
        return self._exits.logits(lanes, exit)

    def close(self, lanes: Sequence[Lane]) -> None:
        """Nothing is kept for a lane but its tokens and what it has of early exits."""
        for lane in lanes:
            lane.early = {}

    def reset(self) -> None:
        """There is no pool to free."""

    def _outputs(self, adapter: str | None, tokens: Sequence[int], keep: int) -> Outputs:
        length = len(tokens)
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
        self._adapters.select([adapter], length)
        columns = torch.arange(length - keep, length, device=self.device)[None]
        with self._exits.capture(columns) as early:
            logits = logits_at(
                self._model,
                columns,
                input_ids=torch.tensor([list(tokens)], device=self.device),
                **self._options,
            )
        self.stats.add(length, length)
        return Outputs(logits[..., : self._vocabulary].to(self.device), early)[0]
