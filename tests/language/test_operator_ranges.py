"""Divergences, similarities and shares stay in their range in whatever precision, so that they can be used as
weights."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arith.language import Formula
from arith.language.operators import reduce
from arith.language.values import Dist

VOCABULARY = 50_000
PRECISIONS = [torch.bfloat16, torch.float32, torch.float64]
LN2 = math.log(2)
OF_ONE: list[tuple[str, Callable[[Dist], Tensor], float]] = [
    ("entropy", reduce.entropy, math.inf),
    ("max_p", reduce.max_p, 1.0),
    ("margin", reduce.margin, 1.0),
    ("confidence", reduce.confidence, 1.0),
]
OF_TWO: list[tuple[str, Callable[[Dist, Dist], Tensor], float]] = [
    ("kl", reduce.kl, math.inf),
    ("js", reduce.js, LN2),
    ("tv", reduce.tv, 1.0),
    ("cosine", reduce.cosine, 1.0),
]


def pairs(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Two batches of distributions each, as log-weights."""
    generator = torch.Generator().manual_seed(8)
    wide = 3 * torch.randn(8, VOCABULARY, generator=generator)
    noise = torch.randn(8, VOCABULARY, generator=generator)
    even = torch.zeros(8, VOCABULARY)
    left = torch.arange(VOCABULARY) < VOCABULARY // 2
    certain = even.clone()
    certain[:, 7] = 60.0
    found = {
        "equal": (wide, wide.clone()),
        "equal but for a constant": (wide, wide + 5.3),
        "nearly equal": (wide, wide + 1e-6 * noise),
        "uniform": (even, even + 3.1),
        "nearly uniform": (even, 1e-6 * noise),
        "nearly disjoint": (wide + 90.0 * left, wide - 90.0 * left),
        "disjoint": (wide.masked_fill(left, -torch.inf), wide.masked_fill(~left, -torch.inf)),
        "nearly certain": (certain, certain.flip(-1)),
    }
    return {name: (a.to(dtype), b.to(dtype)) for name, (a, b) in found.items()}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_no_value_leaves_its_range(dtype: torch.dtype) -> None:
    wide = torch.promote_types(dtype, torch.float32)  # what formulas are computed in
    for case, (a, b) in pairs(dtype).items():
        left, right = Dist(a.to(wide)), Dist(b.to(wide))
        values = [(name, function(side), most) for name, function, most in OF_ONE for side in (left, right)]
        values += [(name, function(left, right), most) for name, function, most in OF_TWO]
        for name, value, most in values:
            top = torch.tensor(most, dtype=wide)
            assert bool(((value >= 0) & (value <= top)).all()), (
                f"{name} of {case}: {value.flatten().tolist()}"
            )


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_what_has_a_range_is_a_weight_and_has_a_root(dtype: torch.dtype) -> None:
    weights = ["tv(a, b)", "js(a, b)/log(2)", "cosine(a, b)", "max_p(a)", "margin(a)", "confidence(a)"]
    roots = [
        "js(a, b)",
        "log(2) - js(a, b)",
        "entropy(a)",
        "1 - cosine(a, b)",
        "1 - tv(a, b)",
        "1 - confidence(a)",
    ]
    formulas = [Formula(f"mix(a, b, {weight})") for weight in weights]
    formulas += [Formula(f"(a + b)/2 + sqrt({root})*p(a) + 0*b") for root in roots]
    formulas.append(Formula("(a + b)/2 + sqrt(min(kl(a, b), 9))*p(a)"))
    for case, (a, b) in pairs(dtype).items():
        if case != "disjoint":  # where a + b is nothing
            for formula in formulas:
                assert formula.evaluate(a=a[:2], b=b[:2]).dtype == dtype


def test_the_root_of_the_divergence_of_equal_distributions_is_zero_and_has_a_gradient() -> None:
    a = torch.randn(4, 300, generator=torch.Generator().manual_seed(9), requires_grad=True)
    formula = Formula("a + 7*sqrt(js(a, b))*b")
    found = formula.evaluate(a=a, b=a.detach())
    torch.testing.assert_close(found, a.log_softmax(-1), rtol=0, atol=1e-5)
    found.exp().square().sum().backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None and bool(a.grad.isfinite().all())
