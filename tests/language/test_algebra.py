"""Arithmetic in Python builds the same formulas as text does, and the two blend."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch

from arith.language import Algebra, Formula
from grammar.errors import FormulaError
from grammar.parse import parse


@dataclass(frozen=True)
class Operand(Algebra):
    """Compared by its fields, as real operands are."""

    model: str


A, B, C = Operand("a"), Operand("b"), Operand("c")

# operand1, operand2, … stand in the order in which they are first used
BUILT: list[tuple[Callable[[], Any], str]] = [
    (lambda: A + B, "operand1 + operand2"),
    (lambda: A - B, "operand1 - operand2"),
    (lambda: A + B + C, "operand1 + operand2 + operand3"),
    (lambda: A - B + C, "operand1 - operand2 + operand3"),
    (lambda: A + (B + C), "operand1 + (operand2 + operand3)"),
    (lambda: A - (B - C), "operand1 - (operand2 - operand3)"),
    (lambda: -A, "-operand1"),
    (lambda: -(A + B), "-(operand1 + operand2)"),
    (lambda: 0.5 * A, "0.5*operand1"),
    (lambda: A * 2, "operand1*2"),
    (lambda: A * -2, "operand1*(-2)"),
    (lambda: -2 * A, "-2*operand1"),
    (lambda: A / 4, "operand1/4"),
    (lambda: 1 + A, "1 + operand1"),
    (lambda: 1 - A, "1 - operand1"),
    (lambda: A + 1, "operand1 + 1"),
    (lambda: A - 1.5, "operand1 - 1.5"),
    (lambda: (A + B) / 2 * 3, "(operand1 + operand2)/2*3"),
    (lambda: A + 0.5 * B + 0.5 * C, "operand1 + 0.5*operand2 + 0.5*operand3"),
    (lambda: B + 0.3 * A - B, "operand1 + 0.3*operand2 - operand1"),
    (lambda: (A + B) + (B + A), "operand1 + operand2 + (operand2 + operand1)"),
    (lambda: A + Operand("a"), "operand1 + operand1"),
]


@pytest.mark.parametrize(("build", "text"), BUILT, ids=[text for _, text in BUILT])
def test_python_builds_the_tree_that_the_text_parses_to(build: Callable[[], Any], text: str) -> None:
    formula = build()
    assert isinstance(formula, Formula)
    assert formula.document == parse(text)
    assert str(formula) == text
    assert formula.operands == tuple(formula.bound_operands())


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda f: f < A, "x < operand1"),
        (lambda f: f <= 2, "x <= 2"),
        (lambda f: f > A, "x > operand1"),
        (lambda f: f >= A, "x >= operand1"),
        (lambda f: 3.5 > f, "x < 3.5"),  # noqa: SIM300  (Python turns it round)
        (lambda f: 1 / f, "1/x"),
    ],
)
def test_comparisons_and_divisions_build_trees_that_are_parts_of_formulas(
    build: Callable[[Formula], Formula], text: str
) -> None:
    assert build(Formula("x")).document == parse(text)


def test_operands_keep_what_they_are_bound_to() -> None:
    formula = B + 0.3 * A - B
    assert formula.bound_operands() == {"operand1": B, "operand2": A}
    assert Formula.of(A).bound_operands() == {"operand1": A}
    assert Formula.of(formula) is formula
    with pytest.raises(TypeError, match="expected a formula or an operand, not a str"):
        Formula.of("a")


def test_a_formula_of_python_and_one_of_text_have_the_same_value() -> None:
    a, b = torch.randn(2, 3, 7, dtype=torch.float64)
    built = (A + B) / 2 - 0.3 * (A - 1) + Formula("max(f, g)", f=A, g=B)
    text = Formula("(a + b)/2 - 0.3*(a - 1) + max(a, b)", a=A, b=B)
    assert built.operands == ("operand1", "operand2", "f", "g")
    result = built.evaluate(operand1=a, operand2=b, f=a, g=b)
    torch.testing.assert_close(result, text.evaluate(a=a, b=b), rtol=0, atol=1e-12)


def test_names_of_text_are_kept_and_unnamed_operands_join_them() -> None:
    formula = Formula("base + alpha*arm", base=A, arm=B) - 0.5 * C + Formula("beta*base", base=A)
    assert str(formula) == "base + alpha*arm - 0.5*operand1 + beta*base"
    assert formula.bound_operands() == {"base": A, "arm": B, "operand1": C}
    assert formula.parameters == ("alpha", "beta")
    again = formula + C
    assert str(again).endswith("+ operand1")
    assert str(A + Formula("base", base=A)) == "operand1 + base"
    assert str(Formula("base", base=A) + A) == "base + base"


def test_a_name_of_two_things_is_refused() -> None:
    with pytest.raises(FormulaError, match=r"`base` is bound to two different things: .*'a'.*'b'"):
        Formula("base + 1", base=A) + Formula("2*base", base=B)
    with pytest.raises(FormulaError, match=r"`x` is bound to two different things: 0\.5 and 1\.0"):
        Formula("x*a", a=A, x=0.5) + Formula("x*a", a=A, x=1)
    assert str(Formula("x*a", a=A, x=0.5) + Formula("x*a", a=A, x=0.5)) == "x*a + x*a"


def test_definitions_stay_apart_where_they_differ_and_are_shared_where_they_are_equal() -> None:
    left, same = Formula("m = 2*a\nm + b", a=A, b=B), Formula("m = 2*a\nm", a=A)
    assert str(left + same) == "m = 2*a\nm + b + m"
    assert str(left + Formula("m = 3*c\nm", c=C)) == "m = 2*a\nm_2 = 3*c\nm + b + m_2"
    chained = Formula("m = a\nn = m + c\nn", a=A, c=C) + Formula("m = b\nn = m + c\nn", b=B, c=C)
    assert str(chained) == "m = a\nn = m + c\nm_2 = b\nn_2 = m_2 + c\nn + n_2"
    unnamed = Formula("m = 2*operand1\nm", operand1=A) + Formula("m = 2*operand1\nm", operand1=B)
    assert str(unnamed) == "m = 2*operand1\nm_2 = 2*operand2\nm + m_2"
    assert unnamed.bound_operands() == {"operand1": A, "operand2": B}


def test_a_definition_never_takes_over_a_name_of_another_formula() -> None:
    assert str(Formula("x + b") + Formula("x = c\nx + d")) == "x_2 = c\nx + b + (x_2 + d)"
    assert str(Formula("x + f", f=Formula("x = c\nx + d"))) == "x_2 = c\nf = x_2 + d\nx + f"
    refused = "`x` is a definition in one formula, and in the other it is not"
    with pytest.raises(FormulaError, match=refused):
        Formula("x = c\nx + d") + Formula("x + b")
    with pytest.raises(FormulaError, match=refused):
        Formula("x = c\nx + d") + Formula("x + b", x=A)
    with pytest.raises(FormulaError, match=refused):
        Formula("x = b\nf + x", f=Formula("x + a"))
    for order in ("f", "g"), ("g", "f"):
        formulas = {"f": Formula("a", a=A), "g": Formula("f + b", f=B, b=C)}
        with pytest.raises(FormulaError, match="`f` is a definition in one formula"):
            Formula("f + g", **{name: formulas[name] for name in order})


def test_a_name_may_stand_for_a_formula() -> None:
    blend = Formula("(a + b)/2", a=A, b=B)
    formula = Formula("top_k(blend, 3) + alpha*blend", blend=blend, alpha=0.5)
    assert str(formula) == "blend = (a + b)/2\ntop_k(blend, 3) + alpha*blend"
    assert formula.bound_operands() == {"a": A, "b": B}
    assert formula.parameter_values() == {"alpha": 0.5}
    nested = Formula("f + a", f=formula, a=A)
    assert nested.bound_operands() == {"a": A, "b": B}
    built = Formula("within(f, top_p(a, 0.9))", f=A - 0.5 * B, a=A)
    assert str(built) == "f = a - 0.5*operand1\nwithin(f, top_p(a, 0.9))"
    assert built.bound_operands() == {"a": A, "operand1": B}


def test_mistakes_of_a_built_formula_are_found_when_it_is_used() -> None:
    with pytest.raises(FormulaError, match="cannot multiply a dist by a dist") as caught:
        _ = (A * B).operands
    assert caught.value.hint == "did you mean `operand1 + operand2`?"
    assert caught.value.span is None
    with pytest.raises(FormulaError, match="the formula is a mask, not a dist"):
        _ = (A > B).operands


@pytest.mark.parametrize("other", ["b", None, True, 1j, [1], Fraction(1, 2)])
def test_only_numbers_operands_and_formulas_are_reckoned_with(other: Any) -> None:
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv, operator.lt, operator.ge):
        with pytest.raises(TypeError):
            operation(A, other)
        with pytest.raises(TypeError):
            operation(other, A)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_numbers_are_finite(number: float) -> None:
    with pytest.raises(FormulaError, match="has to be finite"):
        A * number


def test_a_formula_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="no truth value"):
        _ = A < B < C
