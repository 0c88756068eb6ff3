"""The slow backbone, right for every causal model: no cache, each lane in a plain forward of its own."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import PromptError
from arith.operands.loading import context_window
from arith.runtime.backbone_stats import BackboneStats
from arith.runtime.head import logits_at
from arith.runtime.lane import Lane, LaneRequest
from arith.runtime.lora import LaneAdapters


class RecomputeBackbone:
    """Lanes of a model which slots can't serve; `slower` says why."""

    def __init__(self, model: PreTrainedModel, vocabulary: int, adapters: LaneAdapters, slower: str):
        self.name = str(model.name_or_path or model.config.model_type)
        self.stats = BackboneStats()
        self.context = context_window(model.config)
        self.device = model.device
        self.slower: str | None = slower
        self._model = model
        self._vocabulary = vocabulary
        self._adapters = adapters
        takes_use_cache = "use_cache" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if takes_use_cache else {}

    @torch.inference_mode()
    def open(self, requests: Sequence[LaneRequest]) -> tuple[list[Lane], list[Tensor]]:
        """The lanes and for each the logits `[keep, vocabulary]`; equal requests are run once."""
        lanes = [Lane(request.adapter, list(request.tokens)) for request in requests]
        logits = {
            request: self._logits(request.adapter, request.tokens, request.keep)
            for request in dict.fromkeys(requests)
        }
        return lanes, [logits[request] for request in requests]

    @torch.inference_mode()
    def step(self, lanes: Sequence[Lane], tokens: Tensor) -> Tensor:
        """One more token for each lane (int64 `[n]`); logits `[n, vocabulary]`, a forward for each lane."""
        logits: list[Tensor] = []
        for lane, token in zip(lanes, tokens.tolist(), strict=True):
            logits.append(self._logits(lane.adapter, (*lane.tokens, token), 1))
            lane.tokens.append(token)
        return torch.cat(logits)

    def close(self, lanes: Sequence[Lane]) -> None:
        """Nothing is kept for a lane but its tokens."""

    def reset(self) -> None:
        """There is no pool to free."""

    def _logits(self, adapter: str | None, tokens: Sequence[int], keep: int) -> Tensor:
        length = len(tokens)
        if self.context is not None and length > self.context:
            raise PromptError(f"{length} tokens don't fit the context window of {self.name} ({self.context})")
        self._adapters.select([adapter], length)
        logits = logits_at(
            self._model,
            torch.arange(length - keep, length, device=self.device)[None],
            input_ids=torch.tensor([list(tokens)], device=self.device),
            **self._options,
        )
        self.stats.add(length, length)
        return logits[0, :, : self._vocabulary].to(self.device)
