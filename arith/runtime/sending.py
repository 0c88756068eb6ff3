"""Numbers of the host on their way to a device."""

from typing import Any

import torch
from torch import Tensor


def send(numbers: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of these numbers on the device.

    The host doesn't wait for what the device has still to do: a copy out of ordinary memory would, behind a
    forward that was only just begun; out of pinned memory CUDA takes it when its turn comes.
    """
    tensor = torch.as_tensor(numbers, dtype=dtype, device="cpu")
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
