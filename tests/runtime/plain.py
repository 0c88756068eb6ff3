"""The reference that backbones are compared with: plain forwards, no cache."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.backbone import Backbone, Lane

CPU = torch.device("cpu")


def load(path: str) -> Any:
    return load_model(LLM(path).weights, CPU)


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(1000 * length + seed)
    return tuple(torch.randint(0, 256, (length,), generator=generator).tolist())


class Plain:
    """The reference: the whole sequence in one forward, without a cache."""

    def __init__(self, path: str, vocabulary: int = 270):
        self.model = load(path)
        self.vocabulary = vocabulary

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[int], keep: int = 1) -> Tensor:
        logits: Tensor = self.model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits
        return logits[0, -keep:, : self.vocabulary]


def check(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def check_step(backbone: Backbone, plain: Plain, lanes: list[Lane], seed: int) -> None:
    """One step of the lanes, each row of it against the plain forward."""
    tokens = prompt(len(lanes), seed)
    logits = backbone.step(lanes, tokens)
    assert logits.shape == (len(lanes), plain.vocabulary)
    for lane, token, row in zip(lanes, tokens, logits, strict=True):
        assert lane.tokens[-1] == token
        check(row[None], plain(lane.tokens))
