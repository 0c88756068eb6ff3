"""Whether numbers that were computed in two ways differ by rounding alone."""

import torch
from torch import Tensor


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits that were computed in two ways differ by no more than rounding."""
    exact = expected.dtype in (torch.float32, torch.float64)
    difference = (found - expected).float().square().mean().sqrt()
    spread = expected.float().std()
    return bool(difference <= (1e-3 if exact else 0.1) * spread + 1e-6)


def same(found: Tensor, expected: Tensor) -> bool:
    """Whether the results of a few operations do: everywhere by some units in the last place of that number,
    or of the mean of all."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    unit = 8 * torch.finfo(expected.dtype).eps
    return torch.allclose(found, expected, rtol=unit, atol=unit * float(expected.abs().mean()))
