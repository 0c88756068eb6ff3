"""Every operator against values worked out by hand."""

import re

import pytest
import torch
from torch import Tensor

from arith.language import Formula
from arith.language.inputs import Inputs
from arith.language.operators import REGISTRY
from tests.language.operator_table import F64, OPERANDS, PARAMETERS, STEP
from tests.language.operator_table import TABLE as FIRST_TABLE
from tests.language.operator_table_of_methods import TABLE as SECOND_TABLE

TABLE = [*FIRST_TABLE, *SECOND_TABLE]
IDS = [formula for formula, _ in TABLE]


def formula_of(text: str) -> Formula:
    """The formula with its operands bound, so that nothing is left to be inferred."""
    used = set(re.findall(r"[a-z_]+", text))
    return Formula(text, **{name: object() for name in OPERANDS if name in used})


def value_of(formula: Formula, shift: float = 0.0) -> Tensor:
    step = {"t": STEP} if formula.program.positions else {}
    parameters = {name: PARAMETERS[name] for name in formula.parameters}
    return formula.evaluate(**{n: OPERANDS[n] + shift for n in formula.operands}, **parameters, **step)


@pytest.mark.parametrize(("text", "weights"), TABLE, ids=IDS)
def test_a_formula_has_the_value_worked_out_by_hand(text: str, weights: list[float]) -> None:
    expected = torch.tensor(weights, dtype=F64) / sum(weights)
    torch.testing.assert_close(value_of(formula_of(text)), expected.log(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("text", IDS)
def test_a_constant_added_to_the_log_weights_of_the_operands_changes_nothing(text: str) -> None:
    formula = formula_of(text)
    torch.testing.assert_close(value_of(formula, shift=4.0), value_of(formula), rtol=0, atol=1e-10)


@pytest.mark.parametrize("text", IDS)
def test_a_program_that_is_not_told_of_tokens_outside_finds_them(text: str) -> None:
    formula = formula_of(text)
    leaves = {name: OPERANDS[name].unsqueeze(0) for name in formula.operands}
    parameters = {name: torch.tensor([[PARAMETERS[name]]], dtype=F64) for name in formula.parameters}
    inputs = Inputs(leaves, parameters, {"t": torch.tensor([[STEP]], dtype=F64)}, 1, 4, torch.device("cpu"))
    found = formula.program.log_probs(inputs, exact=False).squeeze(0)
    torch.testing.assert_close(found, value_of(formula), rtol=0, atol=1e-10)


def test_every_operator_is_in_the_table() -> None:
    used = {name for text in IDS for name in re.findall(r"(\w+)\(", text)}
    plain = {operator.name for operator in REGISTRY.values() if not operator.takes_inputs}
    assert plain - used == set()


@pytest.mark.parametrize("name", sorted({operator.name for operator in REGISTRY.values()}))
def test_every_operator_documents_itself_with_an_example_that_compiles(name: str) -> None:
    operator = REGISTRY[name]
    assert operator.summary.strip() and operator.signature.startswith(f"{name}(")
    assert re.search(rf"\b{name}\(", operator.example)
    assert Formula(f"z + ({operator.example})").operands
