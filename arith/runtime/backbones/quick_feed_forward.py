"""Gated feed-forward layers in fewer calls than the models' code makes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from arith.runtime.backbones.joined import Joint, joint_of
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.own_forward import gives_the_same, own_code, use_forwards

_NAMES = ("gate_proj", "up_proj", "act_fn", "down_proj")


class QuickFeedForward:
    """`down(act(gate(x)) * up(x))` (Shazeer 2020), `gate` and `up` being one product."""

    def __init__(self, module: Any, projections: Joint):
        self._projections = projections
        self._activation = module.act_fn
        self._output = module.down_proj

    def __call__(self, states: Tensor) -> Tensor:
        """`[..., hidden]` to `[..., hidden]`."""
        gate, up, _ = self._projections.parts(states)
        output: Tensor = self._output.forward(self._activation.forward(gate) * up)
        return output


def use_quick_feed_forward(model: PreTrainedModel, lanes: LaneAdapters) -> None:
    """Let the gated feed-forward layers of a model whose projections have been joined run this way."""
    lanes.select([lanes.any_adapter], 1)
    use_forwards(model, _quick, _forward)


def _forward(_kind: type[nn.Module]) -> Callable[..., Any]:
    def forward(self: Any, x: Tensor) -> Tensor:
        states: Tensor = self.quick(x)
        return states

    return forward


@torch.inference_mode()
def _quick(module: nn.Module) -> QuickFeedForward | None:
    projections = joint_of(module, "gate_proj", "up_proj")
    if projections is None or not own_code(type(module).forward, ("x",), _NAMES):
        return None
    quick = QuickFeedForward(module, projections)
    drawn = torch.randn(1, 1, projections.product.in_features, generator=torch.Generator().manual_seed(0))
    states = drawn.to(projections.product.weight.dtype)
    return quick if gives_the_same(partial(quick, states), partial(module, states)) else None
