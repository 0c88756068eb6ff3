"""Logits at chosen positions only: the output layer is the dearest one for a long prompt."""

import inspect
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.runtime.backbones.memory import out_of_memory

# What model code raises that expects inputs, outputs or a cache of another kind.
MISFITS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


def misfit(error: Exception) -> str:
    """What a misfit says, in one line. Raises it again where memory ran out, which is none."""
    if out_of_memory(error):
        raise error
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


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
        return (at_columns(hidden, columns), *arguments[1:])

    head: torch.nn.Module | None = cast(Any, model).get_output_embeddings()
    if head is None:
        return at_columns(_run(model, inputs), columns)
    handle = head.register_forward_pre_hook(select)
    try:
        logits = _run(model, inputs)
    finally:
        handle.remove()
    return logits if selected else at_columns(logits, columns)


def at_columns(states: Tensor, columns: Tensor) -> Tensor:
    """The states `[rows, tokens, ...]` at `columns` `[rows, n]`."""
    return torch.take_along_dim(states, columns.to(states.device)[..., None], dim=1)


def without_cache(model: PreTrainedModel) -> dict[str, Any]:
    """The inputs that keep a forward of the model from making a cache of its own."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _run(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits
