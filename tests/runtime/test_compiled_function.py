"""The formula's own arithmetic, and other functions, as compiled programs."""

import contextvars
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Formula
from arith.errors import OperandError, OptionError
from arith.language.inputs import Inputs
from arith.language.program import Program
from arith.runtime import compiled_function
from arith.runtime.compiled_function import CompiledFunction

# torch's own compiler imports what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
CPU = torch.device("cpu")

COMPILED = ["top_p(a + w*b, 0.9)", "where(t < 2, log(0.5*p(a) + 0.5*p(b)), within(a, min_p(b, 0.01)))"]


def inputs_of(program: Program, logits: dict[str, Tensor], rows: int) -> Inputs:
    return Inputs(
        operands={name: logits[name] for name in program.operands},
        parameters={name: torch.full((rows, 1), 0.3) for name in program.parameters},
        positions={name: torch.arange(rows).float()[:, None] for name in program.positions},
        row_count=rows,
        vocabulary=270,
        device=CPU,
    )


def agree_closely(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    return torch.allclose(found[0], expected[0], atol=1e-4) and torch.equal(found[1], expected[1])


def test_a_compiled_formula_gives_what_it_gives_uncompiled(tiny_llama: str, tiny_llama_other: str) -> None:
    """With the real compiler."""
    operands = {"a": LLM(tiny_llama), "b": LLM(tiny_llama_other), "w": 0.3}
    for text in COMPILED:
        used = {name: one for name, one in operands.items() if re.search(rf"\b{name}\b", text)}
        formula = Formula(text, **used)
        run = CompiledFunction(formula.program.run, agree_closely, "on", "the formula")
        generator = torch.Generator().manual_seed(1)
        for rows in (3, 4):
            logits = {name: torch.randn(rows, 270, generator=generator) for name in ("a", "b")}
            inputs = inputs_of(formula.program, logits, rows)
            found, expected = (formula.program.attempt(inputs, one) for one in (run, None))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert run.failure is None


def test_a_formula_that_asks_for_more_than_tensors_is_not_compiled() -> None:
    operand = LLM("somewhere")
    assert Formula("a + 0.1*max(a, b)", a=operand, b=operand).program.is_closed
    for text in ("a - 0.1*layer(a, 1)", "within(a, tokens(3, 4))"):
        assert not Formula(text, a=operand).program.is_closed


def test_a_function_whose_program_differs_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(function: Any, *, dynamic: bool, mode: str | None) -> Any:
        return lambda one: function(one) + 1

    monkeypatch.setattr(torch, "compile", wrong)
    monkeypatch.setattr(compiled_function, "PATIENCE", 2)
    one = torch.tensor([1.0])
    auto = CompiledFunction(torch.neg, torch.equal, "auto", "the sign")
    for _ in range(4):
        assert torch.equal(auto(one), -one)
    assert auto.failure == "the compiled program gives something else"
    with pytest.raises(OperandError, match="the sign can't be compiled: the compiled program gives"):
        CompiledFunction(torch.neg, torch.equal, "on", "the sign")(one)


def test_errors_of_a_function_are_its_own_and_no_compilers() -> None:
    def refuses(_one: Tensor) -> Tensor:
        raise OptionError("not that one")

    called = CompiledFunction(refuses, torch.equal, "on", "the refusal")
    with pytest.raises(OptionError, match="not that one"):
        called(torch.tensor([1.0]))
    assert called.failure is None


def test_calls_of_a_program_leave_nothing_behind() -> None:
    doubled = CompiledFunction(lambda x: 2 * x, torch.allclose, "on", "it")
    numbers = torch.arange(3.0)
    for _ in range(3):
        doubled(numbers)
    before = len(contextvars.copy_context())
    for _ in range(5):
        assert torch.equal(doubled(numbers), 2 * numbers)
    assert len(contextvars.copy_context()) == before
