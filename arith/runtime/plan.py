"""Which weights are loaded for a formula, what runs in one forward, and the memory that takes: known before
loading."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from arith.errors import PlanError
from arith.operands.adapters import unmixable
from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import LLM, Weights
from arith.operands.memory import MemoryEstimate, estimate, estimate_guide
from arith.runtime.free_memory import free_memory
from grammar.errors import FormulaError


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
class GuidePlan:
    """One loaded classifier or reward model, and the names of the operands that share it."""

    weights: Weights
    names: tuple[str, ...]
    memory: MemoryEstimate | None  # None: not on this machine


@dataclass(frozen=True)
class Plan:
    """What a formula runs on one device. Printed, it is what a user wants to know before loading."""

    device: torch.device
    backbones: tuple[BackbonePlan, ...]
    guides: tuple[GuidePlan, ...] = ()
    drafters: frozenset[str] = frozenset()  # the operands whose lanes run for drafts alone

    @classmethod
    def of(
        cls,
        operands: Mapping[str, LLM | GuideOperand],
        device: torch.device,
        *,
        download: bool = False,
        drafters: Iterable[str] = (),
    ) -> "Plan":
        """The plan for operands by name. Operands that are equal share their lanes, under the first name.

        With `download` the configurations of adapters may be fetched; without it an adapter that isn't on
        this machine is taken to be an ordinary LoRA.
        """
        names: dict[LLM, str] = {}
        guides: dict[Weights, list[tuple[str, GuideOperand]]] = {}
        for name, operand in operands.items():
            if isinstance(operand, GuideOperand):
                guides.setdefault(operand.weights, []).append((name, operand))
            elif isinstance(operand, LLM):
                names.setdefault(operand, name)
            else:
                raise FormulaError(
                    f"`{name}` is bound to {operand!r}, which is no operand that the engine can run"
                )
        groups: dict[tuple[Weights, str | None], list[tuple[str, LLM]]] = {}
        memory = {
            name: estimate(operand.weights, _adapters(operand), device) for operand, name in names.items()
        }
        for operand, name in names.items():
            adapter = operand.adapter if download or memory[name] is not None else None
            alone = adapter if adapter is not None and unmixable(adapter) is not None else None
            groups.setdefault((operand.weights, alone), []).append((name, operand))
        return cls(
            device,
            tuple(_backbone(key, lanes, device) for key, lanes in groups.items()),
            tuple(_guide(weights, named, device) for weights, named in guides.items()),
            frozenset(drafters),
        )

    def refuse_if_impossible(self) -> None:
        """Raises `PlanError` with the figures where the weights alone exceed the memory that is free."""
        resident: list[BackbonePlan | GuidePlan] = [*self.backbones, *self.guides]
        memories = [one.memory for one in resident if one.memory is not None]
        loaded = list(accumulate(one.weights_bytes for one in memories))  # one after the other
        peaks = [before + one.loading_bytes for before, one in zip(loaded, memories, strict=True)]
        needed = max(peaks, default=0)
        free = free_memory(self.device)
        if any(one.weights.device_map for one in resident) or needed <= free:
            return
        when = " while they are loaded" if needed > loaded[-1] else ""
        figures = f"{size_in_words(needed)}{when} and {self.device} has {size_in_words(free)} free"
        raise PlanError(
            f"the weights take {figures}\n{self}",
            "use a smaller dtype, quantization: 4bit, or device_map: auto",
        )

    def rows_that_fit(self, tokens_per_lane: int, wanted: int, held: int = 0) -> int:
        """How many rows of that length have room for their KV cache, at least 1 and at most `wanted`, of
        which `held` bytes are there already."""
        each = self.row_bytes(tokens_per_lane)
        # A quarter is left to activations, logits, and the copy that a growing cache makes of itself.
        return max(1, min(wanted, int(0.75 * (free_memory(self.device) + held) // max(each, 1))))

    def row_bytes(self, tokens_per_lane: int) -> int:
        """The bytes of a row's keys and values in all its lanes, guides included."""
        lanes = [(one.memory, len(one.lanes)) for one in self.backbones]
        lanes += [(one.memory, 1) for one in self.guides]
        return sum(
            memory.kv_bytes_per_token * tokens_per_lane * count
            for memory, count in lanes
            if memory is not None
        )

    def prompt_bytes(self, lengths: Mapping[LLM, int]) -> int:
        """The bytes of the keys and values of a row's prompt, from its tokens for each operand that reads
        it."""
        return sum(
            one.memory.kv_bytes_per_token * lengths.get(operand, 0)
            for one in self.backbones
            if one.memory is not None
            for _, operand in one.lanes
        )

    def __str__(self) -> str:
        lines = []
        for number, one in enumerate(self.backbones, start=1):
            said = _memory_in_words(one.memory, len(one.lanes))
            lines.append(f"backbone {number}: {self._place(one.weights)} ({said})")
            for drafts, what in ((False, "one forward a step"), (True, "drafts")):
                lanes = [lane for lane in one.lanes if (lane[0] in self.drafters) == drafts]
                lines += [f"  {what}: {_lanes_in_words(lanes)}"] if lanes else []
        for guide in self.guides:
            said = _memory_in_words(guide.memory, 1)
            lines.append(f"guide {', '.join(guide.names)}: {self._place(guide.weights)} ({said})")
        return "\n".join(lines)

    def _place(self, weights: Weights) -> str:
        return f"{weights.model} on {weights.device_map or self.device}"


def _lanes_in_words(lanes: Sequence[tuple[str, LLM]]) -> str:
    named = ", ".join(name if operand.adapter is None else f"{name}+adapter" for name, operand in lanes)
    return f"{len(lanes)} lane{'' if len(lanes) == 1 else 's'} a row ({named})"


def _memory_in_words(memory: MemoryEstimate | None, lanes: int) -> str:
    if memory is None:
        return "not on this machine, so its memory is not known"
    dtype = str(memory.dtype).removeprefix("torch.")
    half = " with float16 linear layers" if memory.half else ""
    said = f"{dtype}{half}, weights {size_in_words(memory.weights_bytes)}"
    kv = memory.kv_bytes_per_token * lanes
    return f"{said}, KV cache {size_in_words(kv)} a token and row" if kv else said


def size_in_words(count: int) -> str:
    """A number of bytes, in the largest unit (up to MiB) of which there are at least ten."""
    unit, name = next(
        ((2**n, name) for n, name in ((20, "MiB"), (10, "KiB")) if count >= 10 * 2**n), (1, "bytes")
    )
    return f"{count / unit:,.0f} {name}"


def no_room_for(place: str, figures: str, device: torch.device, free: int | None = None) -> PlanError:
    """The error for one row that is too large for the memory, which has so many bytes `free` (None: as many
    as there are now)."""
    rest = size_in_words(free_memory(device) if free is None else free)
    message = f"there is not enough memory for {place}: {figures}, and {device} has {rest} free"
    return PlanError(message, "shorten it, or use less or smaller models")


def _adapters(operand: LLM) -> Sequence[str]:
    return () if operand.adapter is None else (operand.adapter,)


def _backbone(
    key: tuple[Weights, str | None], lanes: list[tuple[str, LLM]], device: torch.device
) -> BackbonePlan:
    weights, alone = key
    adapters = dict.fromkeys(adapter for _, operand in lanes for adapter in _adapters(operand))
    return BackbonePlan(weights, tuple(lanes), alone is not None, estimate(weights, tuple(adapters), device))


def _guide(weights: Weights, named: list[tuple[str, GuideOperand]], device: torch.device) -> GuidePlan:
    return GuidePlan(weights, tuple(name for name, _ in named), estimate_guide(named[0][1], device))
