"""The numbers that a model computes in and keeps its weights in, told from its configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from arith.operands import half_linear
from arith.operands.adapters import unmixable
from arith.operands.llm import Weights
from arith.operands.packed_linear import packs

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def named_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def default_dtype(config: "PretrainedConfig", device: torch.device) -> torch.dtype:
    """The checkpoint's dtype as its config tells it (float32 when it doesn't), adapted to the device."""
    dtype = _own_dtype(config)
    slow = dtype == torch.float16 and device.type == "cpu"
    if dtype == torch.bfloat16 and device.type in ("cpu", "cuda"):
        slow = not (_cpu_has_bfloat16() if device.type == "cpu" else _cuda_has_bfloat16(device))
    return torch.float32 if slow else dtype


def _own_dtype(config: "PretrainedConfig") -> torch.dtype:
    own = config.get_text_config().dtype or config.dtype
    if own is None:
        return torch.float32
    dtype = named_dtype(own) if isinstance(own, str) else own
    assert isinstance(dtype, torch.dtype)
    return dtype


def keeps_half(
    weights: Weights, adapters: Sequence[str], config: "PretrainedConfig", device: torch.device
) -> bool:
    """Whether a backbone's linear layers keep float16 weights while it computes in float32: where no dtype is
    declared, and its checkpoint has 16 bits in which the processor doesn't compute.

    float16 has three bits more than bfloat16, so those of a checkpoint fit, but for numbers too small to
    matter. An adapter that stays in peft's own layers needs weights of an ordinary kind.
    """
    if weights.dtype is not None or default_dtype(config, device) != torch.float32:
        return False
    given = (weights.quantization, weights.device_map, getattr(config, "quantization_config", None))
    narrow = _own_dtype(config) in (torch.float16, torch.bfloat16)
    ordinary = all(one is None for one in given)
    return narrow and ordinary and half_linear.computes(device) and not any(map(unmixable, adapters))


def _cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for it; kernels that imitate them aren't faster than float32."""
    if not packs(torch.device("cpu"), torch.bfloat16):
        return False
    cpu = cast(Any, torch.cpu)
    may_imitate = cpu._is_avx512_supported()
    return bool(not may_imitate or cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def _cuda_has_bfloat16(device: torch.device) -> bool:
    """The same for a GPU: NVIDIA's before Ampere imitate it."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
