"""Steps as compiled programs: `torch.compile`, which on CUDA also records them as CUDA graphs."""

import warnings
from collections import Counter
from collections.abc import Hashable
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arith.errors import OperandError
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.backbones.rounding import agree
from arith.runtime.options import Compile

# Compiling takes as long as some thousand steps; `auto` begins with it when a shape has shown that it stays.
PATIENCE = 1000
LENGTH_STEP = 256  # lengths of a CUDA graph are multiples of it
MOST_PROGRAMS = 1024  # of all models of a class; beyond, the compiler leaves steps as they are
GRAPH_CALLS = 3  # in which a CUDA graph is warmed up, recorded, and replayed for the first time


class CompiledSteps:
    """Runs a model's steps of one token a lane as compiled programs, each warmed up when it is first needed.

    CUDA graphs have static shapes, so lanes are padded to a power of two and lengths to a multiple of 256;
    elsewhere one program takes all shapes. A program is trusted once it has given what the model gives, a
    graph when it has been replayed. Under `auto` one that can't be compiled, or doesn't, leaves the steps to
    the model, for good.
    """

    def __init__(self, model: PreTrainedModel, compile: Compile, *, static: bool):
        self.failure: str | None = None
        self._model = model
        self.required = compile == "on"
        self._static = static
        mode = "reduce-overhead" if model.device.type == "cuda" else None
        self._program: Any = torch.compile(model.forward, dynamic=not static, mode=mode)
        self._many_programs = many_programs()
        self._steps: Counter[tuple[int, int]] = Counter()
        self._agreed: Counter[Hashable] = Counter()  # how often each program gave what the model gives

    @property
    def bound_to_cache(self) -> bool:
        """Whether programs have been made that a cache of another size, or elsewhere, is of no use to."""
        return self._static and self.failure is None and bool(self._agreed)

    def lanes(self, count: int) -> int:
        """With how many lanes a step of so many is run."""
        return 1 << (count - 1).bit_length() if self._static else count

    def length(self, length: int, longest: int | None) -> int:
        """Over how many positions, at most `longest`, a step over so many is run."""
        if not self._static:
            return length
        padded = -(-length // LENGTH_STEP) * LENGTH_STEP
        return padded if longest is None else min(padded, longest)

    def takes(self, count: int, length: int, longest: int | None) -> bool:
        """Whether a step of so many lanes over so many positions is run as a program, now that it has come
        once more. One that isn't needs no padding."""
        shape = self._shape(self.lanes(count), self.length(length, longest))
        self._steps[shape] += 1
        return self.failure is None and (self.required or self._steps[shape] > PATIENCE)

    def __call__(self, inputs: dict[str, Any], kind: Hashable = None) -> Tensor:
        """The logits `[lanes, 1, vocabulary]`; `inputs` are those of the model, and `kind` is whatever else
        programs are told apart by. Raises `OperandError` where compiling is asked for and fails."""
        shape = self._shape(inputs["input_ids"].shape[0], _width(inputs["attention_mask"]))
        key = (shape, kind, inputs["past_key_values"].layout if self._static else None)
        try:
            found = self._compiled(inputs)
        except (*MISFITS, OSError) as error:
            return self._give_up(misfit(error), inputs)
        if self._agreed[key] >= (GRAPH_CALLS if self._static else 1):
            return found
        expected = self._plain(inputs)
        if not agree(found, expected):
            return self._give_up("a compiled step differs from a plain one", inputs)
        self._agreed[key] += 1
        return expected

    def _shape(self, lanes: int, length: int) -> tuple[int, int]:
        """What programs are told apart by; torch makes one for a single lane by itself."""
        return (lanes, length) if self._static else (min(lanes, 2), 2)

    def _plain(self, inputs: dict[str, Any]) -> Tensor:
        logits: Tensor = self._model(**inputs).logits
        return logits

    def _compiled(self, inputs: dict[str, Any]) -> Tensor:
        masks = inputs["attention_mask"]
        packed = (
            {kind: mask.contiguous() for kind, mask in masks.items()}
            if isinstance(masks, dict)
            else masks.contiguous()
        )
        dynamo, compiler = cast(Any, torch._dynamo), cast(Any, torch.compiler)
        if self._static:  # a CUDA graph writes to the cache where it is
            for pool in inputs["past_key_values"].pools.values():
                dynamo.mark_static_address(pool.keys)
                dynamo.mark_static_address(pool.values)
        compiler.cudagraph_mark_step_begin()
        with self._many_programs:
            logits: Tensor = self._program(**{**inputs, "attention_mask": packed}).logits
        return logits.clone()  # a CUDA graph writes its next result to the same place

    def leave(self, reason: str) -> None:
        """Leaves all further steps to the model, and warns. Raises `OperandError` where compiling is asked
        for."""
        self.failure = reason
        message = f"the steps of {self._model.name_or_path} can't be compiled: {reason}"
        if self.required:
            raise OperandError(message, "`compile: auto` goes on without")
        warnings.warn(message, stacklevel=2)

    def _give_up(self, reason: str, inputs: dict[str, Any]) -> Tensor:
        self.leave(reason)
        return self._plain(inputs)


def many_programs() -> Any:
    """A context in which the compiler makes a program for every shape that it meets. One is made for all
    calls: each stays in memory for good."""
    return cast(Any, torch._dynamo).config.patch(
        recompile_limit=MOST_PROGRAMS, accumulated_recompile_limit=MOST_PROGRAMS
    )


def compiles(compile: Compile, device: torch.device) -> bool:
    """Whether steps on this device are compiled. `auto` does so on CUDA alone: on a CPU packed layers leave
    little to gain, and a program takes a minute to make."""
    return compile == "on" or (compile == "auto" and device.type == "cuda")


def _width(masks: Tensor | dict[str, Tensor]) -> int:
    mask = next(iter(masks.values())) if isinstance(masks, dict) else masks
    return mask.shape[-1]
