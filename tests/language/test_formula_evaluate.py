"""`Formula.evaluate` against the same formula written out in plain torch, and how it takes its inputs."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language import Formula
from grammar.errors import FormulaError

F64 = torch.float64
ROWS, VOCABULARY = 5, 40


def logits(seed: int, rows: int = ROWS) -> Tensor:
    return 3 * torch.randn(rows, VOCABULARY, dtype=F64, generator=torch.Generator().manual_seed(seed))


def logs(seed: int) -> Tensor:
    return logits(seed).log_softmax(-1)


A, B, C = logs(1), logs(2), logs(3)
X = torch.linspace(-1.0, 2.0, ROWS, dtype=F64)
Column = X.unsqueeze(-1)


def normal(values: Tensor) -> Tensor:
    return values - values.logsumexp(-1, keepdim=True)


def entropy(values: Tensor) -> Tensor:
    q = normal(values)
    return -(q.exp() * q).sum(-1, keepdim=True)


def nucleus(values: Tensor, share: float) -> Tensor:
    """One row at a time, by sorting: the definition and not the vectorised form."""
    kept = torch.zeros_like(values, dtype=torch.bool)
    for row, probabilities in enumerate(normal(values).exp()):
        total = 0.0
        for token in probabilities.argsort(descending=True).tolist():
            kept[row, token] = True
            total += float(probabilities[token])
            if total >= share:
                break
    return kept


def outside(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, -torch.inf)


def largest(values: Tensor, k: int) -> Tensor:
    return torch.zeros_like(values, dtype=torch.bool).scatter(-1, values.topk(k, -1).indices, True)


def bound(text: str) -> Formula:
    """The formula with `a`, `b` and `c` bound to operands, and `x` and `y` to numbers."""
    used = set(re.findall(r"[a-z_]+", text))
    values = {"a": object(), "b": object(), "c": object(), "x": 0.0, "y": 0.0}
    return Formula(text, **{name: value for name, value in values.items() if name in used})


PLAIN: list[tuple[str, Callable[[], Tensor]]] = [
    ("a + 0.5*b - x*c", lambda: A + 0.5 * B - Column * C),
    ("a/(1 + x*x) + (b - c)/3", lambda: A / (1 + Column**2) + (B - C) / 3),
    ("temper(a - x*b, 0.7)", lambda: (A - Column * B) / 0.7),
    ("average(a + x*x*b + c)", lambda: (A + Column**2 * B + C) / (2 + Column**2)),
    ("d = b - c\na + x*d + 0.1*d", lambda: A + (Column + 0.1) * (B - C)),
    ("w = x*x/9\nlog((1 - w)*p(a) + w*p(b))",
     lambda: ((1 - Column**2 / 9) * A.exp() + Column**2 / 9 * B.exp()).log()),
    ("max(a, b - x, c) + c", lambda: torch.stack([A, B - Column, C]).amax(0) + C),
    ("min(a, x*b)", lambda: torch.minimum(A, Column * B)),
    ("within(a - 0.8*b, min_p(a, 0.1))",
     lambda: outside(A - 0.8 * B, A.exp() / A.exp().amax(-1, True) >= 0.1)),
    ("within(b, top_p(a + c, 0.8))", lambda: outside(B, nucleus(A + C, 0.8))),
    ("top_k(a + x*b, 7) + c", lambda: outside(A + Column * B, largest(A + Column * B, 7)) + C),
    ("where(entropy(a) > 2, a - x*b, c)", lambda: torch.where(entropy(A) > 2, A - Column * B, C)),
    ("a + js(a, b)*c", lambda: A + C * 0.5 * (
        (A.exp() * (A - ((A.exp() + B.exp()) / 2).log())).sum(-1, True)
        + (B.exp() * (B - ((A.exp() + B.exp()) / 2).log())).sum(-1, True))),
    ("a + kl(a + b, c)*b", lambda: A + B * (normal(A + B).exp() * (normal(A + B) - C)).sum(-1, True)),
    ("a + x*p(b)*p(c) + clamp(a - b, min=-2, max=x)",
     lambda: A + Column * B.exp() * C.exp() + torch.minimum((A - B).clamp(min=-2), Column)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain"), PLAIN, ids=[text for text, _ in PLAIN])
def test_a_formula_equals_its_equation_in_plain_torch(text: str, plain: Callable[[], Tensor]) -> None:
    formula = bound(text)
    values = {"a": A, "b": B, "c": C, "x": X}
    result = formula.evaluate(**{name: values[name] for name in (*formula.operands, *formula.parameters)})
    torch.testing.assert_close(result, plain().log_softmax(-1), rtol=0, atol=1e-10)


def test_the_step_is_given_as_t() -> None:
    formula = Formula("a + t*b/10")
    assert (formula.operands, formula.parameters) == (("a", "b"), ())
    torch.testing.assert_close(formula.evaluate(a=A, b=B, t=3), normal(A + 0.3 * B), rtol=0, atol=1e-10)
    with pytest.raises(FormulaError, match="no value is given for `t`"):
        formula.evaluate(a=A, b=B)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_dtype_given_and_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    a, b = A.to(dtype), B.to(dtype)
    result = Formula("a - 0.9*b").evaluate(a=a, b=b)
    assert result.dtype == dtype
    single = torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(result, (a.to(single) - 0.9 * b.to(single)).log_softmax(-1).to(dtype))


def test_operands_of_different_dtypes_give_the_wider() -> None:
    assert Formula("a + b").evaluate(a=A.float(), b=B).dtype == torch.float64


def test_leading_dimensions_broadcast() -> None:
    a, b = A[0], B[:4].reshape(2, 2, VOCABULARY)
    x = torch.tensor([0.5, -1.0], dtype=F64)
    result = Formula("a + x*b").evaluate(a=a, b=b, x=x)
    torch.testing.assert_close(result, normal(a + x.reshape(1, 2, 1) * b), rtol=0, atol=1e-10)
    swept = Formula("a + x*b").evaluate(a=a, b=B[0], x=x)
    assert swept.shape == (2, VOCABULARY)
    assert Formula("a + x*b").evaluate(a=a, b=B[0], x=0.5).shape == (VOCABULARY,)
    assert Formula("top_k(a, x)").evaluate(a=A[:0], x=3).shape == (0, VOCABULARY)


def test_a_row_has_the_same_value_alone_and_in_a_batch() -> None:
    formula = Formula("where(entropy(a) > 2, within(a - x*b, top_p(a, 0.9)), average(max(a, 2*b) + a))")
    batch = formula.evaluate(a=A, b=B, x=X)
    alone = torch.stack([formula.evaluate(a=A[i], b=B[i], x=X[i]) for i in range(ROWS)])
    assert torch.equal(batch, alone)


def test_inputs_stay_as_they_were() -> None:
    a = A.clone()
    a[0, 0] = -torch.inf
    before = a.clone()
    Formula("-2*top_k(a, 5) + clamp(a, min=-3)").evaluate(a=a)
    assert torch.equal(a, before)


def test_a_bound_parameter_may_be_given_another_value() -> None:
    formula = Formula("a + x*b", a=object(), b=object(), x=0.25)
    assert (formula.operands, formula.parameters) == (("a", "b"), ("x",))
    torch.testing.assert_close(formula.evaluate(a=A, b=B), normal(A + 0.25 * B), rtol=0, atol=1e-10)
    torch.testing.assert_close(formula.evaluate(a=A, b=B, x=2), normal(A + 2 * B), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "text",
    ["a + x*b", "log((1 - y)*p(a) + y*p(b))", "average(a + x*b)", "average(max(a, y*b) + a)",
     "a + js(a, b)*b", "a + x*kl(a, b)*b", "where(a > b, a, x*b)", "top_k(a - x*b, 4)",
     "clamp(a - b, min=-y) + abs(x*a)", "within(temper(a, y), top_p(b, 0.7))",
     "log(exp(x*a) + p(b)) + entropy(b)*a", "min(a, b) - x*p(a)"],
)  # fmt: skip
def test_gradients_are_those_of_finite_differences(text: str) -> None:
    formula = bound(text)
    inputs = [values[:2, :6].log_softmax(-1).requires_grad_() for values in (A, B)]
    scalars = {"x": torch.tensor(0.7, dtype=F64), "y": torch.tensor(0.4, dtype=F64)}
    names = [*formula.operands, *formula.parameters]
    given = [*inputs, *(scalars[name].clone().requires_grad_() for name in formula.parameters)]

    def probabilities(*tensors: Tensor) -> Tensor:
        return formula.evaluate(**dict(zip(names, tensors, strict=True))).exp()

    assert torch.autograd.gradcheck(probabilities, given)


def test_the_gradient_of_a_weight_is_there_at_zero() -> None:
    x = torch.zeros((), dtype=F64, requires_grad=True)
    Formula("a + x*b").evaluate(a=A, b=B, x=x)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    expected = (B[:, 0] - (A.exp() * B).sum(-1)).sum()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "text",
    ["a - b", "js(a, b)*c + kl(a, b)*c + c", "log(p(a) + p(b))", "max(a, b)", "-a", "clamp(a, min=-3)",
     "average(min(a, 2*b))"],
)  # fmt: skip
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


BAD: list[tuple[str, dict[str, object], str]] = [
    ("a + x*b", {"a": A, "b": B}, "no value is given for `x`"),
    ("a + x*b", {"a": A, "x": 1}, "no value is given for `b`"),
    ("a + x*b", {"a": A, "b": B, "x": 1, "y": 2}, "`y`, which the formula does not use"),
    ("base + arm", {"base": A, "arm": B, "aarm": B}, "did you mean `arm`?"),
    ("a + b", {"a": A, "b": 0.5}, "`b` has to be a floating-point tensor"),
    ("a + b", {"a": A, "b": A > 0}, "`b` has to be a floating-point tensor"),
    ("a + b", {"a": A, "b": torch.tensor(0.5)}, "`b` has to be a floating-point tensor"),
    ("a + b", {"a": A, "b": B[:, :-1]}, r"vocabularies of different sizes: .*40.*39"),
    ("a + b", {"a": A[:, :1], "b": B[:, :1]}, "this vocabulary has 1 token"),
    ("a + b", {"a": A, "b": B[:3]}, r"do not broadcast"),
    ("a + x*b", {"a": A, "b": B, "x": X[:2]}, r"do not broadcast"),
    ("a + x*b", {"a": A, "b": B, "x": float("nan")}, "parameter `x` is not finite"),
    ("a + x*b", {"a": A, "b": B, "x": float("inf")}, "parameter `x` is not finite"),
    ("a + x*b", {"a": A, "b": B, "x": "1"}, "parameter `x` has to be a number"),
    ("a + x*b", {"a": A, "b": B, "x": None}, "parameter `x` has to be a number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values", "message"), BAD)
def test_values_that_do_not_fit_are_refused(text: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        Formula(text).evaluate(**values)


def test_an_operand_may_be_called_self() -> None:
    torch.testing.assert_close(Formula("self + a").evaluate(self=A, a=B), normal(A + B), rtol=0, atol=1e-10)


def second_row(values: Tensor, number: float, *tokens: int) -> Tensor:
    changed = values.clone()
    changed[1, list(tokens)] = number
    return changed


LEFT, RIGHT = tuple(range(20)), tuple(range(20, VOCABULARY))
# The span is what stands between `[` and `]`.
UNDEFINED: list[tuple[str, dict[str, object], str]] = [
    ("[a] + b", {"a": second_row(A, torch.nan, 3)}, "operand `a` has a log-weight that is NaN or +inf"),
    ("b + x*[a]", {"a": second_row(A, torch.inf, 3)}, "operand `a` has a log-weight that is NaN or +inf"),
    ("[a + b]", {"a": second_row(A, -torch.inf, *LEFT), "b": second_row(B, -torch.inf, *RIGHT)},
     "the support of `a + b` is empty"),
    ("c + b + [within(a, p(a) > x)]", {}, "the support of `within(a, p(a) > x)` is empty"),
    ("[a/y]", {"y": torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])}, "division by zero"),
    ("a + [x/(y - 1)]*b", {"y": torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])}, "division by zero in `x/(y - 1)`"),
    ("[average(a - y*b)]", {"y": torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])}, "division by zero"),
    ("[average(max(a - y*b, 2*a - 9))]", {"y": torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])}, "here that is 0"),
    ("a + [log(y)]*b", {"y": torch.tensor([1.0, -1.0, 2.0, 3.0, 4.0])}, "`log(y)` is not finite"),
    ("[top_k(a, y)] + b", {"y": torch.tensor([1.0, 2.5, 2.0, 3.0, 4.0])}, "`k` of `top_k` is 2.5: it has"),
    ("[top_p(a, y)] + b", {"y": torch.tensor([1.0, 1.5, 0.2, 0.3, 0.4])}, "`p` of `top_p` is 1.5: it has"),
    ("[kl(a, b)]*a + b", {"b": second_row(B, -torch.inf, 4)}, "`kl(a, b)` is not finite"),
    ("where(p([log(p(a) - x)]) > 0.1, a, b)", {}, "the support of `log(p(a) - x)` is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "changed", "message"), UNDEFINED)
def test_a_row_without_a_value_is_named_with_the_part_of_the_formula(
    marked: str, changed: dict[str, object], message: str
) -> None:
    above = (torch.arange(ROWS) == 1).to(F64)  # p > 1 for no token: empty in the second row alone
    start, end = marked.index("["), marked.index("]") - 1
    text = marked.replace("[", "").replace("]", "")
    formula = bound(text)
    values: dict[str, object] = {"a": A, "b": B, "c": C, "x": above, "y": 1.0, **changed}
    with pytest.raises(EvaluationError) as caught:
        formula.evaluate(**{name: values[name] for name in (*formula.operands, *formula.parameters)})
    assert message in caught.value.message
    assert caught.value.message.endswith("at row 1")
    assert caught.value.span is not None
    assert (caught.value.span.start, caught.value.span.end) == (start, end)
    assert isinstance(caught.value, FormulaError)


def test_only_what_is_chosen_needs_a_value() -> None:
    formula = Formula("where(x > 0, a/x, b) + max(a, within(b, p(b) > 2))", a=object(), b=object())
    result = formula.evaluate(a=A, b=B, x=torch.tensor([0.0, 2.0, 0.0, 2.0, 2.0]))
    expected = torch.where(torch.tensor([0, 1, 0, 1, 1]).bool().unsqueeze(-1), A / 2, B) + A
    torch.testing.assert_close(result, normal(expected), rtol=0, atol=1e-10)
