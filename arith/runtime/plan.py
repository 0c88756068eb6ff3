"""Which weights are loaded for a formula, what runs in one forward, and the memory that takes: known before
loading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch

from arith.errors import PlanError
from arith.operands.adapters import unmixable
from arith.operands.llm import LLM, Weights
from arith.operands.memory import MemoryEstimate, estimate
from grammar.errors import FormulaError

MEBIBYTE = 2**20


@dataclass(frozen=True)
class BackbonePlan:
    """One set of resident weights: `lanes` holds, for each lane of a row, the operand's name and its
    adapter."""

    weights: Weights
    lanes: tuple[tuple[str, LLM], ...]
    alone: bool  # its one adapter can't share a forward with lanes of others
    memory: MemoryEstimate | None  # None: not on this machine

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(operand.adapter for _, operand in self.lanes if operand.adapter is not None)
        )


@dataclass(frozen=True)
class Plan:
    """The backbones of a formula on one device. Printed, it is what a user wants to know before loading."""

    device: torch.device
    backbones: tuple[BackbonePlan, ...]

    @classmethod
    def of(cls, operands: Mapping[str, LLM], device: torch.device, *, download: bool = False) -> "Plan":
        """The plan for operands by name. Operands that are equal share their lanes, under the first name.

        With `download` the configurations of adapters may be fetched; without it an adapter that isn't on
        this machine is taken to be an ordinary LoRA.
        """
        names: dict[LLM, str] = {}
        for name, operand in operands.items():
            if not isinstance(operand, LLM):
                raise FormulaError(
                    f"`{name}` is bound to {operand!r}, which is no operand that the engine can run"
                )
            names.setdefault(operand, name)
        groups: dict[tuple[Weights, str | None], list[tuple[str, LLM]]] = {}
        memory = {
            name: estimate(operand.weights, _adapters(operand), device) for operand, name in names.items()
        }
        for operand, name in names.items():
            adapter = operand.adapter if download or memory[name] is not None else None
            alone = adapter if adapter is not None and unmixable(adapter) is not None else None
            groups.setdefault((operand.weights, alone), []).append((name, operand))
        return cls(device, tuple(_backbone(key, lanes, device) for key, lanes in groups.items()))

    def refuse_if_impossible(self) -> None:
        """Raises `PlanError` with the figures where the weights alone exceed the memory that is free."""
        needed = sum(one.memory.weights_bytes for one in self.backbones if one.memory is not None)
        free = free_memory(self.device)
        if any(one.weights.device_map for one in self.backbones) or needed <= free:
            return
        figures = f"{needed / MEBIBYTE:,.0f} MiB and {self.device} has {free / MEBIBYTE:,.0f} MiB free"
        raise PlanError(
            f"the weights take {figures}\n{self}",
            "use a smaller dtype, quantization: 4bit, or device_map: auto",
        )

    def rows_that_fit(self, tokens_per_lane: int, wanted: int) -> int:
        """How many rows of that length have room for their KV cache, at least 1 and at most `wanted`."""
        each = sum(
            one.memory.kv_bytes_per_token * tokens_per_lane * len(one.lanes)
            for one in self.backbones
            if one.memory is not None
        )
        # A quarter is left to activations, logits, and the copy that a growing cache makes of itself.
        return max(1, min(wanted, int(0.75 * free_memory(self.device) // max(each, 1))))

    def __str__(self) -> str:
        lines = []
        for number, one in enumerate(self.backbones, start=1):
            lanes = ", ".join(
                name if operand.adapter is None else f"{name}+adapter" for name, operand in one.lanes
            )
            said = "not on this machine, so its memory is not known"
            if one.memory is not None:
                dtype = str(one.memory.dtype).removeprefix("torch.")
                kv = one.memory.kv_bytes_per_token * len(one.lanes) / 1024
                mebibytes = one.memory.weights_bytes / MEBIBYTE
                said = f"{dtype}, weights {mebibytes:,.0f} MiB, KV cache {kv:,.0f} KiB a token and row"
            plural = "lane" if len(one.lanes) == 1 else "lanes"
            lines.append(
                f"backbone {number}: {one.weights.model} on {one.weights.device_map or self.device} ({said})"
            )
            lines.append(f"  one forward a step: {len(one.lanes)} {plural} a row ({lanes})")
        return "\n".join(lines)


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _adapters(operand: LLM) -> Sequence[str]:
    return () if operand.adapter is None else (operand.adapter,)


def _backbone(
    key: tuple[Weights, str | None], lanes: list[tuple[str, LLM]], device: torch.device
) -> BackbonePlan:
    weights, alone = key
    adapters = dict.fromkeys(adapter for _, operand in lanes for adapter in _adapters(operand))
    return BackbonePlan(weights, tuple(lanes), alone is not None, estimate(weights, tuple(adapters), device))
