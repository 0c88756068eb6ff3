"""Log-probabilities of given tokens without the logits of all positions at once."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK_VALUES = 2**24  # logits held at a time: 64 MB in float32


def token_log_probs(
    hidden: Tensor, targets: Tensor, head: nn.Module, logits_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """log π(target) at each position, `[positions]`, in nats: float32, or float64 of float64 states.

    hidden: `[positions, hidden]`, what enters the output layer `head`; targets: `[positions]` token ids;
    logits_of: the output layer as a function. The logits `[positions, vocabulary]` exist for a chunk of
    positions at a time only. A frozen linear layer gets its gradient in the forward pass: a log-probability
    depends on one position's hidden state alone, by ∂ log π(y)/∂h = W_y − Σ_v π(v) W_v. Other layers compute
    the chunk anew in the backward pass.
    """
    chunks = list(_chunks(hidden, targets, head))
    frozen: Any = _FrozenHead
    if type(head) is nn.Linear and not any(weight.requires_grad for weight in head.parameters()):
        parts = [frozen.apply(part, head.weight, head.bias, chosen) for part, chosen in chunks]
    elif torch.is_grad_enabled():
        parts = [checkpoint(_chosen, logits_of, *chunk, use_reentrant=False) for chunk in chunks]
    else:
        parts = [_chosen(logits_of, *chunk) for chunk in chunks]
    return torch.cat(parts)


def _chunks(hidden: Any, targets: Any, head: Any) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, CHUNK_VALUES // head.out_features)
    yield from zip(hidden.split(size), targets.split(size), strict=True)


def _chosen(logits_of: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Tensor:
    kind = hidden.device.type
    # Each chunk casts the weights anew: the gradients of a cast that all share would be summed up in a half.
    with torch.autocast(
        kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
    ):
        return of_logits(logits_of(hidden), targets)


def of_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of `logits` `[positions, vocabulary]` at `targets` `[positions]`, in float32 at least."""
    return -functional.cross_entropy(_wide(logits), targets, reduction="none")


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class _FrozenHead(torch.autograd.Function):
    """`of_logits` of a linear layer without gradients of its own, which keeps no logits for the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        logits = functional.linear(hidden, weight, bias)
        dtype = logits.dtype  # under autocast another than that of the hidden states
        logits = _wide(logits)
        total = logits.logsumexp(dim=-1)
        chosen = logits.gather(-1, targets[:, None]).squeeze(-1) - total
        if ctx.needs_input_grad[0]:
            probabilities = logits.sub_(total[:, None]).exp_().to(dtype)
            expected = functional.linear(probabilities, weight.t())
            ctx.save_for_backward((weight[targets] - expected).to(hidden.dtype))
        return chosen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        (derivative,) = ctx.saved_tensors
        return (derivative * gradients[0][:, None]).to(derivative.dtype), None, None, None
