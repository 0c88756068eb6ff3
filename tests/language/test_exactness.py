"""Operands that hold -inf are found out by a program that was not told of them, and NaN hides nowhere."""

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from arith import Dist, EvaluationError, Mask, Scalar, Vec, operator
from arith.language import Formula
from arith.language.inputs import Inputs
from arith.language.operators import REGISTRY
from grammar.errors import FormulaError
from tests.language.test_language_properties import QUICK, VOCABULARY, compiled, formulas, inputs, seeds

F64 = torch.float64
CPU = torch.device("cpu")


def run(formula: Formula, values: dict[str, Tensor], exact: bool) -> Tensor | None:
    rows = len(values["a"])
    given = Inputs(
        {name: values[name] for name in formula.program.operands},
        {name: values[name].reshape(rows, 1) for name in formula.program.parameters},
        {"t": values["x"].reshape(rows, 1), "prompt_length": values["y"].reshape(rows, 1)},
        rows,
        VOCABULARY,
        CPU,
    )
    try:
        return formula.program.log_probs(given, exact=exact)
    except EvaluationError:
        return None


@QUICK
@given(formulas, seeds)
def test_a_program_finds_out_by_itself_that_operands_have_supports(text: str, seed: int) -> None:
    formula, values = compiled(text), inputs(seed)
    told, untold = run(formula, values, exact=True), run(formula, values, exact=False)
    assert (told is None) is (untold is None)
    if told is not None and untold is not None:
        torch.testing.assert_close(untold, told, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "w", "expected"),
    [
        ("top_k(base - w*arm, 2)", 1.0, [0, 0, 0.2857142857, 0.7142857143]),
        ("top_k(other + w*arm, 4)", 0.0, [0.4, 0.3, 0.2, 0.1]),
        ("log(exp(other - w*arm))", 0.0, [0.4, 0.3, 0.2, 0.1]),
        ("within(other, top_k(base, 4))", 0.0, [0, 0.5, 1 / 3, 1 / 6]),
    ],
)
def test_supports_are_kept_by_operators_that_could_hide_them(
    text: str, w: float, expected: list[float]
) -> None:
    operands = {"base": [0, 0.2, 0.3, 0.5], "other": [0.4, 0.3, 0.2, 0.1], "arm": [0, 0.5, 0.3, 0.2]}
    formula = Formula(text)
    given = Inputs(
        {name: torch.tensor([operands[name]], dtype=F64).log() for name in formula.operands},
        {name: torch.tensor([[w]], dtype=F64) for name in formula.parameters},
        {}, 1, 4, CPU,
    )  # fmt: skip
    for exact in (True, False):
        found = formula.program.log_probs(given, exact=exact).exp().squeeze(0)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "text", ["top_k(a + {}, 2)", "a + log({})", "within(a, log({}))", "a + clamp({}, 0, 1)"]
)
def test_a_nan_made_inside_a_formula_is_an_error_whatever_could_hide_it(text: str) -> None:
    nan = "(p(b) - p(b))/(p(b) - p(b))"
    a = torch.tensor([[0.4, 0.3, 0.3]], dtype=F64).log()
    with pytest.raises(EvaluationError, match=r"not finite|has no value"):
        Formula(text.format(nan)).evaluate(a=a, b=a)


@pytest.fixture
def wrong() -> Any:
    before = dict(REGISTRY)

    @operator("wrong_vec", example="wrong_vec(base)")
    def wrong_vec(f: Dist) -> Vec:
        return f.logits[:, 0]

    @operator("wrong_scalar", example="wrong_scalar(base)")
    def wrong_scalar(f: Dist) -> Scalar:
        return f.logits.sum(-1)

    @operator("wrong_dist", example="wrong_dist(base)")
    def wrong_dist(f: Dist) -> Dist:
        return f.logits  # type: ignore[return-value]

    @operator("wrong_mask", example="wrong_mask(base)")
    def wrong_mask(f: Dist) -> Mask:
        return f.logits

    @operator("nothing", example="nothing(base)")
    def nothing(f: Dist) -> Vec:
        return None  # type: ignore[return-value]

    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base + wrong_vec(base)", r"`wrong_vec` gave a Tensor \[3\] of float64.* a vec, for 3 rows and 5"),
        ("base + wrong_scalar(base)*base", r"`wrong_scalar` gave a Tensor \[3\] of float64.* a scalar"),
        ("wrong_dist(base)", r"`wrong_dist` gave a Tensor \[3, 5\] of float64.* a dist"),
        ("within(base, wrong_mask(base))", r"`wrong_mask` gave a Tensor \[3, 5\] of float64.* a mask"),
        ("base + nothing(base)", r"`nothing` gave a NoneType.* a vec"),
    ],
)
def test_an_operator_that_gives_something_else_is_named(wrong: None, text: str, message: str) -> None:
    base = torch.randn(3, 5, dtype=F64)
    with pytest.raises(FormulaError, match=message) as caught:
        Formula(text).evaluate(base=base)
    assert caught.value.span is not None
