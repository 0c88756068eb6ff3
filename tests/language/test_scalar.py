"""Expressions over numbers: what they come to, and what isn't one."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arith.language.scalar import Scalar
from grammar.errors import FormulaError


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("1 - h", {"h": 0.25}, 0.75),
        ("2*(h - s)/4", {"h": 3, "s": 1}, 1.0),
        ("-h", {"h": -2}, 2.0),
        ("a - b - c", {"a": 1, "b": 2, "c": 3}, -4.0),
        ("half = h/2\nhalf*half", {"h": 3}, 2.25),
        ("max(h, 1 - h)", {"h": 0.2}, 0.8),
        ("exp(log(h))", {"h": 0.3}, 0.3),
        ("1e-3", {}, 0.001),
    ],
)
def test_an_expression_comes_to_what_arithmetic_says(
    text: str, values: dict[str, float], expected: float
) -> None:
    assert Scalar(text).value(values) == pytest.approx(expected, abs=1e-12)


def test_its_names_are_those_that_need_values_in_order_of_first_use() -> None:
    assert Scalar("x = s - h\nx*h + exp(w)").names == ("s", "h", "w")
    assert Scalar("0.5").names == ()


NUMBER = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 6))


@settings(max_examples=60, deadline=None)
@given(NUMBER, NUMBER, NUMBER)
def test_values_of_any_sign_mean_the_same_as_in_python(a: float, b: float, c: float) -> None:
    names = {"a": a, "b": b, "c": c}
    for text in ("a - b*c", "a*-b - (c - a)", "-a - -b", "a*a - 2*a*b + b*b"):
        value = Scalar(text).value(names)
        assert math.isclose(value, eval(text, dict(names)), rel_tol=1e-12, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("text", "values", "words", "marked"),
    [
        ("1/h", {"h": 0.0}, "division by zero", "1/h"),
        ("2 + h/(1 - h)", {"h": 1.0}, "division by zero", "h/(1 - h)"),
        ("1 - hh", {"h": 1.0}, "did you mean `h`?", "hh"),
        ("w", {}, "names with values: none", "w"),
        ("1 + log(h)", {"h": -1.0}, "not a finite number", "log(h)"),
        ("exp(h)", {"h": 1e4}, "not a finite number", "exp(h)"),
        ("h > 0", {"h": 1.0}, "not a number", "h > 0"),
        ("entropy(h)", {"h": 1.0}, "has to be a dist", "h"),
    ],
)
def test_what_has_no_value_is_marked_in_the_text(
    text: str, values: dict[str, float], words: str, marked: str
) -> None:
    with pytest.raises(FormulaError) as raised:
        Scalar(text).value(values)
    assert words in str(raised.value)
    drawn = str(raised.value).splitlines()
    carets = next(line for line in drawn if "^" in line)
    start = carets.index("^")
    assert drawn[drawn.index(carets) - 1][start : carets.rindex("^") + 1] == marked


@pytest.mark.parametrize("text", ["1 -", "t/10", "h ** 2", ""])
def test_what_is_no_expression_over_numbers_is_refused_at_once(text: Any) -> None:
    with pytest.raises(FormulaError):
        Scalar(text)
