"""The operators on random distributions against their equations in plain torch, and where they have no
value."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language import Formula
from arith.language.operators.combine import farthest
from arith.language.operators.support import top_p, typical
from arith.language.values import Dist
from grammar.errors import FormulaError

F64 = torch.float64
ROWS, VOCABULARY = 5, 40


def logs(seed: int, rows: int = ROWS, vocabulary: int = VOCABULARY) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, vocabulary, dtype=F64, generator=generator)).log_softmax(-1)


A, B, C = logs(1), logs(2), logs(3)
X = torch.linspace(0.1, 0.9, ROWS, dtype=F64)
W = X.unsqueeze(-1)


def bound(text: str) -> Formula:
    used = set(re.findall(r"[a-z_]+", text))
    values = {"a": object(), "b": object(), "c": object(), "x": 0.0}
    return Formula(text, **{name: value for name, value in values.items() if name in used})


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (a.exp() * (a - b)).sum(-1, keepdim=True)


def js(a: Tensor, b: Tensor) -> Tensor:
    middle = ((a.exp() + b.exp()) / 2).log()
    return (kl(a, middle) + kl(b, middle)) / 2


def outside(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, -torch.inf)


def locally_typical(values: Tensor, shares: Tensor) -> Tensor:
    """As the definition says it."""
    entropy = -(values.exp() * values).sum(-1, keepdim=True)
    return ranked(values, -(-values - entropy).abs(), shares)


def ranked(values: Tensor, scores: Tensor, shares: Tensor) -> Tensor:
    """The best scored tokens whose probabilities together reach the share, one row at a time."""
    kept = torch.zeros_like(values, dtype=torch.bool)
    for row, (log_probs, score, share) in enumerate(zip(values, scores, shares, strict=True)):
        total = 0.0
        for token in score.argsort(descending=True).tolist():
            kept[row, token] = True
            total += math.exp(float(log_probs[token]))
            if total >= share:
                break
    return kept


def halved(base: Tensor, direction: Tensor, limit: Tensor, most: float) -> Tensor:
    """The largest weight within the limit, by halving."""
    low, high = torch.zeros(ROWS, 1, dtype=F64), torch.full((ROWS, 1), 2 * most, dtype=F64)
    for _ in range(60):
        middle = (low + high) / 2
        inside = kl((base + middle * direction).log_softmax(-1), base) <= limit
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low.clamp(max=most)


PLAIN: list[tuple[str, Callable[[], Tensor]]] = [
    ("a + relu(b - x*c)", lambda: A + (B - W * C).clamp(min=0)),
    ("a + x*tanh(b - a)", lambda: A + W * (1 - 2 / (1 + (2 * (B - A)).exp()))),
    ("a + sign(b - a)*x", lambda: A + W * ((B > A).to(F64) - (B < A).to(F64))),
    ("a + sigmoid(b - a)", lambda: A + (B - A).exp() / (1 + (B - A).exp())),
    ("log(sqrt(p(a)*p(b))) + sqrt(x)*c", lambda: (A + B) / 2 + W**0.5 * C),
    ("a + tv(a, b)*b", lambda: A + B * (A.exp() - B.exp()).clamp(min=0).sum(-1, True)),
    ("a + max_p(b)*b", lambda: A + B * B.max(-1, True).values.exp()),
    ("a + margin(b)*b", lambda: A + B * B.exp().sort(-1).values[:, -2:].diff(dim=-1)),
    ("a + confidence(b)*b", lambda: A + B * (1 + (B.exp() * B).sum(-1, True) / math.log(VOCABULARY))),
    ("a + total(p(a)*log_p(b + c))*b", lambda: A + B * (A.exp() * (B + C).log_softmax(-1)).sum(-1, True)),
    ("a + largest(p(b) - x*p(c))*b", lambda: A + B * (B.exp() - W * C.exp()).max(-1, True).values),
    ("a + smallest(p(b) - x*p(c))*b", lambda: A + B * (B.exp() - W * C.exp()).min(-1, True).values),
    ("a + log_p(b - x*c)", lambda: A + (B - W * C).log_softmax(-1)),
    ("top_p(a, x, by=b - c)", lambda: outside(A, ranked(A, B - C, X))),
    ("a + cosine(a, b)*b", lambda: A + B * (A.exp() * B.exp()).sum(-1, True) / (
        (2 * A).exp().sum(-1, True) * (2 * B).exp().sum(-1, True)).sqrt()),
    ("a - x*farthest(a, b, c)", lambda: A - W * torch.where(js(A, C) > js(A, B), C, B)),
    ("a + ramp(10*x, 3, 8)*b", lambda: A + B * ((10 * W - 3) / 5).clamp(0, 1)),
    ("a + decay(3, x)*b", lambda: A + B * (-math.log(2) * 3 / W).exp()),
    ("typical(a, x)", lambda: outside(A, locally_typical(A, X))),
    ("epsilon(a, x/10)", lambda: outside(A, (A.exp() >= W / 10) | (A.amax(-1, True) == A))),
    ("within(a, complement(b > c))", lambda: outside(A, C >= B)),
    ("mix(a, b + c, x)", lambda: (W * A.exp() + (1 - W) * (B + C).softmax(-1)).log()),
    ("relu(center(a - b))", lambda: (A - B - (A - B).mean(-1, True)).clamp(min=0)),
    ("a + anchor(a, b - a, x, 1.5)*(b - a)", lambda: A + halved(A, B - A, W, 1.5) * (B - A)),
    ("a + anchor(a, 9*p(b), x/100, 500)*p(c)", lambda: A + halved(A, 9 * B.exp(), W / 100, 500) * C.exp()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain"), PLAIN, ids=[text for text, _ in PLAIN])
def test_an_operator_equals_its_equation_in_plain_torch(text: str, plain: Callable[[], Tensor]) -> None:
    formula = bound(text)
    values = {"a": A, "b": B, "c": C, "x": X}
    given = {name: values[name] for name in (*formula.operands, *formula.parameters)}
    expected = plain().log_softmax(-1)
    torch.testing.assert_close(formula.evaluate(**given), expected, rtol=0, atol=1e-10)
    single = formula.evaluate(**{name: tensor.float() for name, tensor in given.items()})
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-3)


def test_the_first_of_candidates_that_tie_is_the_farthest() -> None:
    left = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=F64).log()
    even = torch.zeros(2, 2, dtype=F64)
    chosen = farthest(Dist(even), Dist(even), Dist(left), Dist(left.flip(-1)))
    torch.testing.assert_close(chosen.logits, left, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.9, 1.0])
def test_a_typical_set_beyond_the_first_candidates_is_found(share: float) -> None:
    values = torch.cat([logs(4, 2, 3000) / 20, logs(5, 2, 3000)]).log_softmax(-1)
    shares = torch.full((4,), share, dtype=F64)
    support = typical(Dist(values), shares.unsqueeze(-1)).support
    assert support is not None
    if share < 1:
        assert torch.equal(support, locally_typical(values, shares))
        assert support.sum(-1).max() > 1024 or share < 0.5
    else:
        assert bool(support.all())


@pytest.mark.parametrize("share", [0.2, 0.9, 1.0])
def test_a_nucleus_in_another_order_is_found_beyond_the_first_candidates(share: float) -> None:
    values, scores = logs(4, 4, 3000), logs(5, 4, 3000)
    shares = torch.full((4,), share, dtype=F64)
    support = top_p(Dist(values), shares.unsqueeze(-1), by=Dist(scores)).support
    assert support is not None
    assert torch.equal(support, ranked(values, scores, shares) if share < 1 else torch.ones_like(support))
    assert support.sum(-1).max() > 1024 or share < 0.5


def test_log_probabilities_too_low_for_single_precision_are_kept_and_their_probabilities_are_not() -> None:
    a = torch.tensor([[0.0, -1.0, -200.0]])
    even = torch.zeros(1, 3)
    for text in ("a", "normalize(a)", "b + log_p(a)"):
        formula = bound(text)
        found = formula.evaluate(**{name: {"a": a, "b": even}[name] for name in formula.operands})
        torch.testing.assert_close(found, a.log_softmax(-1))
    assert bound("log(p(a))").evaluate(a=a)[0, 2] == -torch.inf


def test_a_mixture_keeps_tokens_too_unlikely_to_be_written_as_probabilities() -> None:
    a = torch.tensor([[0.0, -300.0, -400.0]])
    b = torch.tensor([[0.0, -500.0, -350.0]])
    found = bound("mix(a, b, 0.5)").evaluate(a=a, b=b)
    expected = torch.tensor([[0.0, -300.0 - math.log(2), -350.0 - math.log(2)]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("most", [0.5, 1e4])
def test_an_anchored_formula_stays_within_its_bound_in_single_precision(most: float) -> None:
    a, b = (logs(seed, 8, 20000).float() for seed in (6, 7))
    result = bound(f"a + anchor(a, b - a, 0.2, {most})*(b - a)").evaluate(a=a, b=b)
    divergence = kl(result.double(), a.double())
    assert bool((divergence <= 0.2 + 1e-5).all())
    if most > 1:
        assert bool((divergence >= 0.2 - 1e-4).all())


def second_row(number: float, *tokens: int) -> Tensor:
    changed = A.clone()
    changed[1, list(tokens)] = number
    return changed


FULL = torch.where(torch.arange(ROWS).unsqueeze(-1) == 1, A, A.masked_fill(B[:, :1] < B, -torch.inf))
"""All tokens in the second row alone."""
# The span is what stands between `[` and `]`; x is 1 in the second row and 0.5 in the others.
UNDEFINED: list[tuple[str, dict[str, object], str]] = [
    ("a + [sqrt(0.9 - x)]*b", {}, "`sqrt(0.9 - x)` is not finite"),
    ("[typical(a, x + 0.4)] + b", {}, "`p` of `typical` is 1.4: it has to be a number above 0"),
    ("within(b, [epsilon(a, 0.9 - x)])", {}, "`p` of `epsilon` is -0.1: it has to be"),
    ("[mix(a, b, 1.1*x)] + b", {}, "`w` of `mix` is 1.1: it has to be a number from 0 to 1"),
    ("a + [decay(t, 0.9 - x)]*b", {"t": 3}, "`half_life` of `decay` is -0.1: it has to be a number above 0"),
    ("a + [ramp(t, x, 0.9)]*b", {"t": 3}, "`ramp(t, x, 0.9)` is not finite"),
    ("a + [anchor(a, b, 0.9 - x, 5)]*b", {}, "`bound` of `anchor` is -0.1: it has to be a number above 0"),
    ("a + [anchor(a, b, 1, 0.9 - x)]*b", {}, "`most` of `anchor` is -0.1: it has to be a number above 0"),
    ("b + anchor(b, [within(a, p(a) > x - 0.4)], 1, 2)*c", {}, "the support of"),
    ("b + anchor([within(a, p(a) > x - 0.4)], c, 1, 2)*c", {}, "the support of"),
    ("farthest([within(a, p(a) > x - 0.4)], b, c)", {}, "the support of"),
    ("b - farthest(b, c, [within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("b + tv([within(a, p(a) > x - 0.4)], b)*c", {}, "the support of"),
    ("b + max_p([within(a, p(a) > x - 0.4)])*c", {}, "the support of"),
    ("b + margin([within(a, p(a) > x - 0.4)])*c", {}, "the support of"),
    ("b + confidence([within(a, p(a) > x - 0.4)])*c", {}, "the support of"),
    ("b + cosine(b, [within(a, p(a) > x - 0.4)])*c", {}, "the support of"),
    ("mix([within(a, p(a) > x - 0.4)], b, 0.5)", {}, "the support of"),
    ("center([within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("typical([within(a, p(a) > x - 0.4)], 0.5)", {}, "the support of"),
    ("epsilon([within(a, p(a) > x - 0.4)], 0.5)", {}, "the support of"),
    ("relu([within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("b + log_p([within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("top_p(b, 0.9, by=[within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("top_p(b, 1, by=[within(a, p(a) > x - 0.4)])", {}, "the support of"),
    ("[top_p(within(b, a > c), 0.9, by=within(b, a < c + 99*(x < 1)))]", {}, "the support of"),
    ("b + p(a)*[log_p(a)]", {"a": second_row(-math.inf, 3)}, "`log_p(a)` is not finite"),
    ("log(1 - p(a)*[log_p(a)])", {"a": second_row(-math.inf, 3)}, "`log_p(a)` is not finite"),
    ("b - total(p(a)*[log_p(a)])*c", {"a": second_row(-math.inf, 3)}, "`log_p(a)` is not finite"),
    ("b - [log_p(a)]", {"a": second_row(-math.inf, 3)}, "`log_p(a)` is not finite"),
    ("b + smallest([log_p(a)])*c", {"a": second_row(-math.inf, 3)}, "`log_p(a)` is not finite"),
    ("within(b, complement([within(a, p(a) > x - 0.4)]))", {}, "the support of"),
    ("within(b, complement([top_k(c, x*2.5)]))", {"x": torch.tensor([2, 1, 2, 2, 2.0])}, "`k` of `top_k`"),
    ("[within(b, complement(a))]", {"a": FULL}, "the support of `within(b, complement(a))` is empty"),
    ("b + sign([a])", {"a": second_row(math.nan, 3)}, "operand `a` has a log-weight that is NaN"),
    ("b + anchor(b, [a], 1, 2)*c", {"a": second_row(math.nan, 3)}, "operand `a` has a log-weight"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "changed", "message"), UNDEFINED)
def test_a_row_without_a_value_is_named_with_the_part_of_the_formula(
    marked: str, changed: dict[str, object], message: str
) -> None:
    start, end = marked.index("["), marked.index("]") - 1
    formula = bound(marked.replace("[", "").replace("]", ""))
    likely = torch.full_like(A, -math.log(VOCABULARY))
    likely[0::2, 0] = likely[3, 0] = 9.0  # in the second row no token has a probability above 0.6
    number = torch.tensor([0.5, 1.0, 0.5, 0.5, 0.5], dtype=F64)
    values: dict[str, object] = {"a": likely.log_softmax(-1), "b": B, "c": C, "x": number, **changed}
    names = (*formula.operands, *formula.parameters, *(["t"] if "t" in changed else []))
    with pytest.raises(EvaluationError) as caught:
        formula.evaluate(**{name: values[name] for name in names})
    assert message in caught.value.message
    assert caught.value.message.endswith("at row 1")
    assert caught.value.span is not None
    assert (caught.value.span.start, caught.value.span.end) == (start, end)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("typical(a, 0)", "`p` of `typical` is 0: it has to be a number above 0 and at most 1"),
        ("epsilon(a, 2)", "`p` of `epsilon` is 2: it has to be a number above 0 and at most 1"),
        ("mix(a, b, -0.5)", "`w` of `mix` is -0.5: it has to be a number from 0 to 1"),
        ("a + decay(t, 0)*b", "`half_life` of `decay` is 0: it has to be a number above 0"),
        ("a + anchor(a, b, 0, 1)*b", "`bound` of `anchor` is 0: it has to be a number above 0"),
        ("a + anchor(a, b, 1, -1)*b", "`most` of `anchor` is -1: it has to be a number above 0"),
        ("sqrt(-1)*a", "not a finite number"),
        ("ramp(1, 2, 2)*a", "not a finite number"),
        ("farthest(a)", "farthest"),
        ("a + sqrt(b)", "has to be a scalar or vec, and this is a dist"),
        ("a + ramp(b, 0, 1)*a", "`t` of `ramp` has to be a scalar, and this is a dist"),
        ("mix(a, b, max(a, b))", "`w` of `mix` has to be a scalar, and this is a dist"),
        ("top_p(a, 0.5, by=p(b))", "`by` of `top_p` has to be a dist, and this is a vec"),
        ("a + total(b)*b", "`v` of `total` has to be a vec, and this is a dist"),
        ("a + largest(2)*b", "`v` of `largest` has to be a vec, and this is a scalar"),
        ("a*log_p(b)", "cannot multiply a dist by a vec"),
        ("a + tv(a, p(b))*b", "`b` of `tv` has to be a dist, and this is a vec"),
        ("within(a, complement(p(b)))", "has to be a dist or mask, and this is a vec"),
        ("a + anchor(a, 2, 1, 1)*b", "`direction` of `anchor` has to be a dist or vec, and this is a scalar"),
    ],
)
def test_what_is_wrong_in_every_row_is_refused_before_there_are_values(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=re.escape(message)):
        bound(text)
