"""A function over the vocabulary as a compiled program: its elementwise steps and reductions fused."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

from arith.errors import OperandError
from arith.runtime.backbones.compiled import PATIENCE, many_programs
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.options import Compile

Result = TypeVar("Result")


class CompiledFunction(Generic[Result]):
    """Calls a function of tensors as a program of `torch.compile`, for any number of rows: on CUDA Triton
    kernels, elsewhere the compiler's own.

    Under `auto` it is compiled when it has been called a thousand times. The program is trusted once it has
    given what the function gives, by `agree`; one that can't be made, or gives something else, leaves the
    calls to the function, for good. Under `on` that is an `OperandError`. `name` says what it is.
    """

    def __init__(
        self,
        function: Callable[..., Result],
        agree: Callable[[Result, Result], bool],
        compile: Compile,
        name: str,
    ):
        self.failure: str | None = None
        self._function = function
        self._agree = agree
        self._required = compile == "on"
        self._name = name
        self._program: Any = torch.compile(function, dynamic=True, mode=None)
        self._many_programs = many_programs()
        self._calls = 0
        self._trusted = False

    def __call__(self, *arguments: Any) -> Result:
        self._calls += 1
        waits = not self._required and self._calls <= PATIENCE
        if self.failure is not None or waits:
            return self._function(*arguments)
        if self._trusted:
            return self._compiled(*arguments)
        expected = self._function(*arguments)  # whose own errors are no compiler's
        try:
            found = self._compiled(*arguments)
        except (*MISFITS, OSError) as error:
            self._give_up(misfit(error))
        else:
            self._trusted = self._agree(found, expected)
            if not self._trusted:
                self._give_up("the compiled program gives something else")
        return expected

    def _compiled(self, *arguments: Any) -> Result:
        with self._many_programs:
            result: Result = self._program(*arguments)
        return result

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        if self._required:
            raise OperandError(f"{self._name} can't be compiled: {reason}", "`compile: auto` goes on without")
