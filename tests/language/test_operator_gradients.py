"""Gradients through the operators: against finite differences, and at the places where they are decided by
hand."""

import re

import pytest
import torch
from torch import Tensor

from arith.language import Formula

F64 = torch.float64


def logs(seed: int, rows: int = 2, vocabulary: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(rows, vocabulary, dtype=F64, generator=generator)).log_softmax(-1)


A, B, C = logs(1), logs(2), logs(3)
NUMBERS = {"x": 0.7, "y": 0.4}


def bound(text: str) -> Formula:
    used = set(re.findall(r"[a-z_]+", text))
    values = {"a": object(), "b": object(), "c": object(), **NUMBERS}
    return Formula(text, **{name: value for name, value in values.items() if name in used})


def gradient_of(text: str, name: str, **values: Tensor) -> Tensor:
    """The gradient of the first token's log-probability, summed over rows."""
    leaf = values[name].clone().requires_grad_()
    bound(text).evaluate(**{**values, name: leaf})[..., 0].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize(
    "text",
    [
        "relu(a - b) + c",
        "a + x*tanh(y*(a - b))",
        "a + sign(a - b) + b",
        "a + sigmoid(a - x*b) + sigmoid(x - y)*b",
        "log(sqrt(p(a)*p(b))) + sqrt(x)*a",
        "a + tv(a, x*b)*b",
        "a + max_p(a - y*b)*b",
        "a + margin(a + b)*b",
        "a + confidence(x*a)*b",
        "a + cosine(a, b - y*c)*b",
        "a - x*farthest(a, b, c)",
        "a + total(p(a)*log_p(x*b))*c",
        "a + largest(p(a) - p(b))*b + smallest(p(a) - y*p(b))*c",
        "a + x*log_p(a - y*b)*p(b)",
        "top_p(a - x*b, 0.7, by=c)",
        "a + sqrt(js(a, b))*kl(a, x*b)*b + entropy(a)*c",
        "a + ramp(t, x - 1, x + y)*b",
        "a + decay(t, y)*b",
        "typical(a - x*b, 0.7)",
        "epsilon(a - x*b, 0.05)",
        "within(a, complement(top_k(b, 2))) + x*b",
        "mix(a, b - x*c, y)",
        "max(center(a), x*center(b))",
        "a + anchor(a, b - x*c, 0.1*y, 5)*(b - a)",
        "a + anchor(a, p(b), y, 3*x)*c",
        "a + anchor(a, b - a, 9, x)*b",
    ],
)
def test_gradients_are_those_of_finite_differences(text: str) -> None:
    formula = bound(text)
    step = {"t": 0.25} if "(t," in text else {}
    tensors = {"a": A, "b": B, "c": C, **{name: torch.tensor(x, dtype=F64) for name, x in NUMBERS.items()}}
    names = [*formula.operands, *formula.parameters]

    def probabilities(*given: Tensor) -> Tensor:
        return formula.evaluate(**dict(zip(names, given, strict=True)), **step).exp()

    assert torch.autograd.gradcheck(probabilities, [tensors[n].clone().requires_grad_() for n in names])


@pytest.mark.parametrize(
    "text",
    [
        "relu(a - b) + c",
        "tanh(a) + sign(b) + c",
        "c + sigmoid(a - b)",
        "log(sqrt(p(a)*p(b)))",
        "c + tv(a, b)*c + cosine(a, b)*c",
        "c + max_p(a)*c + margin(b)*c + confidence(a)*c",
        "farthest(a, b, c) + a",
        "typical(a, 0.7) + c",
        "epsilon(a, 0.1) + c",
        "mix(a, b, 0.3)",
        "c + total(clamp(log_p(a), min=-9)*p(a))*b",
        "c + largest(log_p(a))*b + smallest(p(b))*a",
        "c + log_p(a)",
        "c + top_p(a, 0.7, by=b) + b",
        "center(a) + center(b)",
        "c + anchor(c, a - b, 9, 2)*(b - c)",
        "c + anchor(b, a, 1, 5)*b",
    ],
)
def test_gradients_are_finite_where_tokens_are_outside(text: str) -> None:
    a, b = A[:1].clone(), B[:1].clone()
    a[0, :3] = -torch.inf
    b[0, 0] = -torch.inf
    values = {"a": a.requires_grad_(), "b": b.requires_grad_(), "c": C[:1].clone().requires_grad_()}
    formula = bound(text)
    result = formula.evaluate(**{name: values[name] for name in formula.operands})
    result.exp().square().sum().backward()  # type: ignore[no-untyped-call]
    for name in formula.operands:
        gradient = values[name].grad
        assert gradient is not None and bool(gradient.isfinite().all())


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_mixture_has_the_gradient_of_its_weight_at_both_ends(weight: float) -> None:
    found = gradient_of("mix(a, b, x)", "x", a=A, b=B, x=torch.tensor(weight, dtype=F64))
    of = (A if weight else B)[:, 0].exp()
    expected = ((A[:, 0].exp() - B[:, 0].exp()) / of).sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_gradient_of_a_root_at_zero_counts_zero() -> None:
    found = gradient_of("a + sqrt(x)*b", "x", a=A, b=B, x=torch.tensor(0.0, dtype=F64))
    assert found.item() == 0


def test_what_the_bound_holds_back_moves_with_the_bound() -> None:
    # dw/dbound = 1/(dKL/dw), here by the difference of two bounds
    direction, bound_at = B - A, torch.tensor(0.1, dtype=F64)
    text = "a + anchor(a, b - a, x, 5)*(b - a)"
    found = gradient_of(text, "x", a=A, b=B, x=bound_at)

    def weight(limit: float) -> Tensor:
        """By halving."""
        low, high = torch.zeros(2, 1, dtype=F64), torch.full((2, 1), 5.0, dtype=F64)
        for _ in range(60):
            middle = (low + high) / 2
            moved = (A + middle * direction).log_softmax(-1)
            inside = (moved.exp() * (moved - A)).sum(-1, keepdim=True) <= limit
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        return low

    def value(limit: float) -> Tensor:
        return (A + weight(limit) * direction).log_softmax(-1)[:, 0].sum()

    expected = (value(0.1 + 1e-5) - value(0.1 - 1e-5)) / 2e-5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_what_the_bound_leaves_free_moves_with_most_alone() -> None:
    values = {"a": A, "b": B, "x": torch.tensor(9.0, dtype=F64), "y": torch.tensor(0.5, dtype=F64)}
    text = "a + anchor(a, b - a, x, y)*(b - a)"
    assert gradient_of(text, "x", **values).item() == 0
    fixed = gradient_of("a + y*(b - a)", "y", a=A, b=B, y=values["y"])
    torch.testing.assert_close(gradient_of(text, "y", **values), fixed, rtol=0, atol=1e-12)


def test_only_the_chosen_candidate_has_a_gradient() -> None:
    values = {"a": A[0], "b": A[0] + torch.linspace(0, 0.1, 6, dtype=F64), "c": A[0].flip(-1)}
    assert bool((gradient_of("farthest(a, b, c)", "b", **values) == 0).all())
    plain = gradient_of("c", "c", c=values["c"])
    torch.testing.assert_close(gradient_of("farthest(a, b, c)", "c", **values), plain, rtol=0, atol=1e-12)
