"""Logits at chosen positions only: the output layer is the dearest one for a long prompt."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel


def logits_at(model: PreTrainedModel, columns: Tensor | None, **inputs: Any) -> Tensor:
    """Run the model; its logits `[rows, n, vocabulary]` at `columns` `[rows, n]` (None: at every token).

    The hidden states are selected where they enter the output layer, so that whatever the model does to its
    logits after it (scaling, soft caps) stays the model's, and lanes stay the first dimension.
    """
    if columns is None:
        return _run(model, inputs)
    selected = False

    def select(_module: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        nonlocal selected
        if selected or not arguments or arguments[0].shape[:2] != inputs["input_ids"].shape:
            return None
        selected = True
        hidden = arguments[0]
        return (_take(hidden, columns), *arguments[1:])

    head: torch.nn.Module | None = cast(Any, model).get_output_embeddings()
    if head is None:
        return _take(_run(model, inputs), columns)
    handle = head.register_forward_pre_hook(select)
    try:
        logits = _run(model, inputs)
    finally:
        handle.remove()
    return logits if selected else _take(logits, columns)


def _run(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits


def _take(states: Tensor, columns: Tensor) -> Tensor:
    return torch.take_along_dim(states, columns.to(states.device)[..., None], dim=1)
