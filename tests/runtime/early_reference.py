"""The reference for early exits: the hidden states and logits of a plain Llama, its adapter run by peft."""

import functools
from typing import Any

import torch
from torch import Tensor

from arith.operands.adapters import attach
from arith.runtime.backbones.backbone import Backbone, Lane
from tests.runtime.plain import check, load

EXITS = (0, 1, 2)


@functools.cache
def runner(path: str, adapter: str | None) -> Any:
    """The plain model, its adapter run by peft."""
    return load(path) if adapter is None else attach(load(path), [adapter])[0]


@torch.inference_mode()
def check_early(backbone: Backbone, path: str, lanes: list[Lane], logits: list[Tensor]) -> None:
    """The hidden states and logits of every exit, against the output of hooks in a plain forward."""
    found = {exit: backbone.early_logits(lanes, exit) for exit in EXITS}
    for number, (lane, own) in enumerate(zip(lanes, logits, strict=True)):
        model = runner(path, lane.adapter)
        plain = model(input_ids=torch.tensor([lane.tokens]), output_hidden_states=True)
        keep = len(own)
        llama = model.base_model.model if lane.adapter else model
        for exit in EXITS[:-1]:
            states = plain.hidden_states[exit][0, -keep:]
            assert lane.early[exit].shape == (keep, 32)
            # No norm has been over them: they go into the hundreds, and rounding with them.
            torch.testing.assert_close(
                lane.early[exit], states, rtol=1e-5, atol=1e-5 * float(states.abs().max())
            )
            check(found[exit][number], llama.lm_head(llama.model.norm(states)))
        check(own, plain.logits[0, -keep:])
        assert found[EXITS[-1]][number].shape == own.shape
        torch.testing.assert_close(found[EXITS[-1]][number], own, rtol=0, atol=1e-5)
