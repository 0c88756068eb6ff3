"""What others do, timed: transformers' generate, its guidance, and the model's bare matrix products."""

import time
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, StoppingCriteria

from arith.runtime.trial import Timing, synchronise

SAMPLING: dict[str, Any] = {"do_sample": True, "top_k": 0, "pad_token_id": 0}


class FirstToken(StoppingCriteria):
    """Ends nothing, and notes when the first token was there."""

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_named: Any) -> torch.Tensor:
        if self.at is None:
            synchronise(input_ids.device)
            self.at = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def generate(model: PreTrainedModel, ids: torch.Tensor, tokens: int, **options: Any) -> Timing:
    """A call of transformers' `generate`, which samples `tokens` for each row of `ids` `[rows, length]`."""
    first, runner = FirstToken(), cast(Any, model)
    settings: Any = {**SAMPLING, "max_new_tokens": tokens, "stopping_criteria": [first], **options}
    synchronise(model.device)
    started = time.perf_counter()
    found = runner.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    synchronise(model.device)
    ended = time.perf_counter()
    if found.shape[1] != ids.shape[1] + tokens or first.at is None:
        raise RuntimeError("a text of the baseline ended early")
    return Timing(ended - started, ended - first.at, tokens - 1, tokens * len(ids))


def guidance(unwanted: torch.Tensor, scale: float) -> dict[str, Any]:
    """The options of transformers' classifier-free guidance, away from the prompts `unwanted`."""
    return {
        "guidance_scale": scale,
        "negative_prompt_ids": unwanted,
        "negative_prompt_attention_mask": torch.ones_like(unwanted),
    }


class MatrixProducts:
    """Every linear layer of a model once, in the order of the model, and nothing else."""

    def __init__(self, model: PreTrainedModel, lanes: int):
        self.device = model.device
        self.layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self.states = {
            size: torch.randn(lanes, 1, size, device=model.device, dtype=model.dtype)
            for size in {layer.in_features for layer in self.layers}
        }

    @torch.inference_mode()
    def ms(self, times: int) -> float:
        """Milliseconds for all of them, in the mean of so many times."""
        synchronise(self.device)
        started = time.perf_counter()
        for _ in range(times):
            for layer in self.layers:
                layer(self.states[layer.in_features])
        synchronise(self.device)
        return 1e3 * (time.perf_counter() - started) / times
