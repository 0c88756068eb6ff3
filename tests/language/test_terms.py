"""The sum that a formula is."""

import pytest
import torch

from arith import Formula
from arith.language.inputs import Inputs
from arith.language.terms import TermValue, term_values, terms_of

A, B, C = (torch.randn(2, 7, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3))


def names(text: str) -> list[str]:
    return [term.name for term in terms_of(Formula(text).program)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("a + x*b - 2*a", ["a", "b"]),
        ("d = a + b\nd - 0.5*(b - c)", ["a", "b", "c"]),
        ("normalize(a + b)", ["a", "b"]),
        ("top_k(min_p(a + b, 0.1), 5)", ["a", "b"]),
        ("within(a - b, top_p(c, 0.9))", ["a", "b"]),
        ("average(a - 0.6*b)", ["a", "b"]),
        ("temper(a + b, 1.5)", ["a", "b"]),
        ("a + average(a + b)", ["a", "average(a + b)"]),
        ("a + 0.5*max(a, b)", ["a", "max(a, b)"]),
        ("a + x*(p(b) - p(c))", ["a", "p(b)", "p(c)"]),
        ("a + entropy(b)", ["a"]),
        ("max(a, b)", []),
        ("log(p(a)*p(b))", []),
    ],
)
def test_the_terms_of_a_formula(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_only_bare_operands_are_operands() -> None:
    terms = terms_of(Formula("a + 2*max(a, b) + kl(a, b)*b").program)
    assert {term.name: term.operand for term in terms} == {"a": "a", "max(a, b)": None, "b": "b"}


@pytest.mark.parametrize(
    "text", ["a - 0.5*b + x*c", "average(a + x*b)", "top_k(a + entropy(b)*b, 3)", "a + x*(p(b) > 0.1)", "a"]
)
def test_the_sum_of_the_terms_is_the_formula(text: str) -> None:
    program = Formula(text).program
    given = {"a": A, "b": B, "c": C}
    inputs = Inputs(
        operands={name: given[name] for name in program.operands},
        parameters={name: torch.tensor([[0.3], [-1.2]]) for name in program.parameters},
        positions={}, row_count=2, vocabulary=7, device=torch.device("cpu"),
    )  # fmt: skip
    total = torch.stack([one.contributions for one in term_values(program, terms_of(program), inputs)]).sum(0)
    expected = program.log_probs(inputs)
    inside = ~expected.isneginf()
    found = total.masked_fill(~inside, -torch.inf).log_softmax(-1)
    torch.testing.assert_close(found, expected)


def test_a_token_outside_a_support_stays_out_whatever_the_weight() -> None:
    values = torch.tensor([[-1.0, -torch.inf]] * 3)
    found = TermValue(torch.tensor([[2.0], [-2.0], [0.0]]), values).contributions
    assert found.tolist() == [[-2.0, -torch.inf], [2.0, -torch.inf], [0.0, 0.0]]
