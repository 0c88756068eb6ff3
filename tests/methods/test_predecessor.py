"""`average` gives the normalised values of language-model-arithmetic (Dekoninck et al. 2024), and where not.

The rules of that library, as `Part`: every part of its formulas has a value and a norm, for each token. An
operand's norm is 1, a constant's is itself; norms are added in sums and multiplied in products, and `Max` and
`Min` take each token's from the side that wins. What is sampled is `log_softmax(value/norm)`, and the value
undivided wherever the norm of any token is 0.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TopKLogitsWarper, TopPLogitsWarper

from arith import EvaluationError, Formula, FormulaError
from tests.methods.published import ROWS, VOCABULARY, Draw

LOWEST = -1e8


@dataclass(frozen=True)
class Part:
    value: Tensor
    norm: Tensor

    def __add__(self, other: "Part") -> "Part":
        return Part(self.value + other.value, self.norm + other.norm)

    def __rmul__(self, factor: float) -> "Part":
        return Part(factor * self.value, factor * self.norm)

    def sampled(self) -> Tensor:
        divided = self.value if bool((self.norm == 0).any()) else self.value / self.norm
        return divided.log_softmax(-1)


def operand(log_probs: Tensor) -> Part:
    return Part(log_probs, torch.ones_like(log_probs))


def constant(number: float) -> Part:
    return Part(
        torch.full((ROWS, VOCABULARY), number).double(), torch.full((ROWS, VOCABULARY), number).double()
    )


def union(left: Part, right: Part) -> Part:
    first = left.value >= right.value
    return Part(torch.maximum(left.value, right.value), torch.where(first, left.norm, right.norm))


def intersection(left: Part, right: Part) -> Part:
    first = left.value < right.value
    return Part(torch.minimum(left.value, right.value), torch.where(first, left.norm, right.norm))


def normalize(inner: Part) -> Part:
    return operand(inner.sampled())


def filtered(inner: Part, *, top_k: int = VOCABULARY, top_p: float = 1.0, temperature: float = 1.0) -> Part:
    """Its TopPTopK: tokens that are out get a large negative number, and the whole the norm inside."""
    scores: Any = inner.sampled() / temperature
    for warper in (TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        scores = warper(torch.empty(ROWS, 0, dtype=torch.long), scores)
    return Part(inner.norm * scores.log_softmax(-1).clamp(min=LOWEST), inner.norm)


def debiased(of: Part, bias: Part, strength: float) -> Part:
    raised = torch.minimum(of.value.exp() - bias.value.exp(), torch.zeros(()).double())
    return operand((of.value + strength * raised).log_softmax(-1))


def classifier(
    proposal: Part, judged: tuple[Tensor, Tensor], *, k: int, use_bayes: bool = True, minimize: bool = False
) -> Part:
    """Of one text at a time: the label's log-probability for the k most likely tokens of the proposal."""
    values, without = (torch.log1p(-side.exp()) if minimize else side for side in judged)
    without = without.unsqueeze(-1)
    candidates = proposal.sampled().topk(k, dim=-1).indices
    start = torch.zeros_like(values) if use_bayes else without.expand_as(values)
    new = (values - without if use_bayes else values).gather(-1, candidates)
    spread = start.scatter(-1, candidates, new)
    return Part(spread, torch.zeros_like(spread)) if use_bayes else operand(spread.log_softmax(-1))


class Case:
    def __init__(self, draw: Draw):
        self.values: dict[str, Any] = {name: draw.dist() for name in ("a", "b", "c")}
        self.values["judge"] = draw.judged()
        self.a, self.b, self.c = (operand(self.values[name]) for name in ("a", "b", "c"))
        self.judge = self.values["judge"]

    def ours(self, formula: str) -> Tensor:
        parsed = Formula(formula)
        return parsed.evaluate(**{name: self.values[name] for name in parsed.operands})


@pytest.fixture
def case(draw: Draw) -> Case:
    return Case(draw)


def assert_same(formula: Tensor, theirs: Part) -> None:
    """The same distribution; what they give a large negative number has no probability here."""
    sampled = theirs.sampled()
    sampled = sampled.masked_fill(sampled < LOWEST / 1000, -torch.inf)
    torch.testing.assert_close(formula, sampled, rtol=1e-10, atol=1e-10)


def differ(left: Tensor, right: Tensor) -> bool:
    """Whether some row has a noticeably other distribution (in total variation)."""
    return bool(((left.exp() - right.exp()).abs().sum(-1) / 2 > 0.01).any())


def test_average_divides_a_sum_by_the_sum_of_its_coefficients_as_the_predecessor_does(case: Case) -> None:
    a, b, c = case.a, case.b, case.c
    assert_same(case.ours("average(a - 0.6*b)"), a + -0.6 * b)
    assert_same(case.ours("average(a + 2*b - 0.5*c)"), a + 2 * b + -0.5 * c)
    assert_same(case.ours("average(a - 3*b)"), a + -3 * b)
    assert_same(case.ours("average(2*(a - 0.5*b) + c)"), 2 * (a + -0.5 * b) + c)
    assert_same(case.ours("average(3*a)"), 3 * a)


def test_average_follows_the_winning_side_of_unions_and_intersections(case: Case) -> None:
    a, b, c = case.a, case.b, case.c
    assert_same(case.ours("average(union(a, b))"), union(a, b))
    assert_same(case.ours("average(intersection(a, b))"), intersection(a, b))
    assert_same(case.ours("average(a - 0.6*b + 2*union(a, c))"), a + -0.6 * b + 2 * union(a, c))
    assert_same(case.ours("average(a + union(2*a, 3*b))"), a + union(2 * a, 3 * b))
    assert_same(case.ours("average(a + 0.5*intersection(2*a, b - 0.3*c))"),
                a + 0.5 * intersection(2 * a, b + -0.3 * c))  # fmt: skip


def test_a_maximum_with_zero_weighs_nothing_where_both_sides_have_coefficients_that_cancel(
    case: Case,
) -> None:
    theirs = case.a + 1.5 * union(case.b + -1 * case.c, constant(0))
    assert_same(case.ours("average(a + 1.5*max(b - c, 0*c))"), theirs)
    assert_same(case.ours("a + 1.5*relu(b - c)"), theirs)


def test_parts_that_are_normalised_inside_a_sum_count_one(case: Case) -> None:
    a, b, c = case.a, case.b, case.c
    assert_same(case.ours("average(0.5*average(a - 0.6*b) + c)"), 0.5 * normalize(a + -0.6 * b) + c)
    # include_norm=False gives a maximum the norm 1 whatever is in it.
    assert_same(case.ours("average(a + 0.5*normalize(max(2*b, c)))"),
                a + 0.5 * operand(union(2 * b, c).value))  # fmt: skip
    assert_same(case.ours("average(a + 0.5*uniform())"),
                a + 0.5 * operand(torch.full_like(a.value, 1 / VOCABULARY).log()))  # fmt: skip


def test_filtered_parts_under_positive_weights_are_supports(case: Case) -> None:
    a, b = case.a, case.b
    assert_same(case.ours("average(top_k(a, 5) + b)"), filtered(a, top_k=5) + b)
    assert_same(case.ours("average(top_p(a, 0.8) + b)"), filtered(a, top_p=0.8) + b)
    assert_same(case.ours("average(top_p(top_k(temper(a, 0.7), 9), 0.8) + b)"),
                filtered(a, top_k=9, top_p=0.8, temperature=0.7) + b)  # fmt: skip
    # The filter passes on the norm of what is inside; here it is written as the weight.
    assert_same(case.ours("average(0.4*top_k(average(a - 0.6*b), 5) + b)"),
                filtered(a + -0.6 * b, top_k=5) + b)  # fmt: skip


def test_a_filtered_part_under_a_negative_weight_makes_what_is_out_certain_there_and_stays_out_here(
    case: Case,
) -> None:
    theirs = case.a + -0.5 * filtered(case.b, top_k=5)
    inside = filtered(case.b, top_k=5).value > LOWEST
    assert bool((theirs.sampled().exp().masked_fill(inside, 0).sum(-1) > 0.999).all())
    ours = case.ours("average(a - 0.5*top_k(b, 5))").exp()
    assert bool((ours.masked_fill(inside, 0) == 0).all())


def test_self_debiasing_is_a_line_with_a_relu(case: Case) -> None:
    theirs = debiased(case.a, case.b, 50.0)
    assert_same(case.ours("a - 50*relu(p(b) - p(a))"), theirs)
    assert_same(case.ours("average(average(a - 50*relu(p(b) - p(a))) + c)"), theirs + case.c)


def test_a_superseded_distribution_is_the_larger_one(case: Case) -> None:
    assert_same(case.ours("supersede(a, average(b - 0.5*c))"), case.b + -0.5 * case.c)


def test_an_indicator_is_a_choice_whose_other_side_has_weight_zero(case: Case) -> None:
    raised = (case.a.value >= case.b.value).double()
    difference = case.a + -1 * case.b
    theirs = case.c + 1.5 * Part(raised * difference.value, raised * difference.norm)
    assert_same(case.ours("c + 1.5*where(a >= b, a - b, 0*a)"), theirs)


def test_an_indicator_inside_an_average_is_a_maximum_with_what_weighs_nothing(case: Case) -> None:
    def indicated(part: Part) -> Part:
        raised = (part.value >= 0).double()
        return Part(raised * part.value, raised * part.norm)

    theirs = case.a + indicated(case.a + -1 * case.b)
    assert_same(case.ours("average(a + max(a - b, 0*a))"), theirs)
    assert differ(case.ours("average(a + where(a >= b, a - b, 0*a))"), theirs.sampled())
    uneven = case.c + 1.5 * indicated(case.a + -0.5 * case.b)
    assert_same(case.ours("average(c + 1.5*max(a - 0.5*b, 0*a))"), uneven)


def test_a_classifier_in_the_bayes_form_weighs_nothing(case: Case) -> None:
    a, b, judge = case.a, case.b, case.judge
    formula = a + -0.6 * b
    theirs = formula + 1.5 * classifier(formula, judge, k=5)
    assert_same(case.ours("base = a - 0.6*b\naverage(base + 1.5*guide(judge, on=base, k=5))"), theirs)
    # minimize=True is the other label of two; of more labels it is one minus the probability.
    less = formula + 1.5 * classifier(formula, judge, k=5, minimize=True)
    against = "1 - exp(guide(judge, on=base, k=5, bayes=false))"
    assert_same(case.ours(f"base = a - 0.6*b\n(base + 1.5*log({against}))/0.4"), less)


def test_a_classifier_as_it_is_counts_one_there_and_nothing_here(case: Case) -> None:
    theirs = case.a + 1.5 * classifier(case.a, case.judge, k=5, use_bayes=False)
    guide = "guide(judge, on=a, k=5, bayes=false)"
    assert differ(case.ours(f"average(a + 1.5*{guide})"), theirs.sampled())
    assert_same(case.ours(f"(a + 1.5*{guide})/2.5"), theirs)


def test_constants_change_the_temperature_there_and_nothing_here(case: Case) -> None:
    theirs = case.a + constant(3)
    assert_same(case.ours("a/4"), theirs)
    assert differ(case.ours("average(a + 3)"), theirs.sampled())
    torch.testing.assert_close(case.ours("average(a + 3)"), case.values["a"])


def test_coefficients_that_cancel_leave_the_sum_undivided_there_and_are_refused_here(case: Case) -> None:
    assert_same(case.ours("a - b"), case.a + -1 * case.b)
    with pytest.raises(FormulaError, match="the sum of the coefficients, and here that is 0"):
        case.ours("average(a - b)")


def test_a_norm_of_zero_for_one_token_undoes_the_division_of_all_there(case: Case) -> None:
    mixed = union(case.a + -1 * case.b, 2 * case.c)
    assert bool((mixed.norm == 0).any()) and bool((mixed.norm == 2).any())
    assert_same(case.ours("max(a - b, 2*c)"), mixed)
    with pytest.raises(EvaluationError, match="the sum of the coefficients"):
        case.ours("average(max(a - b, 2*c))")


def test_of_equal_sides_a_minimum_follows_the_second_there_and_the_first_here(case: Case) -> None:
    once, twice = case.a, Part(case.a.value, 2 * case.a.norm)
    assert_same(case.ours("average(max(a, 2*temper(a, 2)))"), union(once, twice))
    theirs = intersection(once, twice)
    assert_same(case.ours("average(min(2*temper(a, 2), a))"), theirs)
    assert differ(case.ours("average(min(a, 2*temper(a, 2)))"), theirs.sampled())


def test_without_average_the_same_samples_come_at_the_temperature_times_the_sum_of_coefficients(
    case: Case,
) -> None:
    theirs = (case.a + -0.6 * case.b).sampled()
    torch.testing.assert_close((theirs / 0.7).log_softmax(-1), case.ours("(a - 0.6*b)/(0.7*0.4)"))


INDICATOR = Formula(
    "terms = kl_terms(a, b)\n"
    "rest = 1 - p(a) + 1e-12\n"
    "without = log((1 - p(b) + 1e-12)/rest) + (kl(a, b) - terms)/rest\n"
    "within(a, (kl(a, b) - without > 0.01)*(p(a) < p(b)) == 0)"
)


def test_the_tokens_without_which_one_model_is_nearer_to_another_are_a_few_lines() -> None:
    """KL_indicator: each token of a taken out by itself, what is left renormalised, and its KL to b."""
    draw = Draw(23)
    a, b = draw.dist(), draw.dist()
    removed = torch.zeros(ROWS, VOCABULARY, dtype=torch.bool)
    for row in range(ROWS):
        whole = float((a[row].exp() * (a[row] - b[row])).sum())
        for token in range(VOCABULARY):
            left = torch.arange(VOCABULARY) != token
            one, other = a[row][left].log_softmax(-1), b[row][left].log_softmax(-1)
            gain = whole - float((one.exp() * (one - other)).sum())
            removed[row, token] = gain > 0.01 and a[row, token] < b[row, token]
    assert 0 < removed.sum() < removed.numel()
    found = INDICATOR.evaluate(a=a, b=b)
    torch.testing.assert_close(found, a.masked_fill(removed, -torch.inf).log_softmax(-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_model_that_is_certain_of_one_token_is_no_trouble_to_the_indicator(dtype: torch.dtype) -> None:
    """Without a token that has the probability P in b the divergence is less by -log(1 - P); the token that a
    is certain of is not less likely in a than in b."""
    draw = Draw(24)
    certain = draw.dist().to(dtype)
    certain[:, 5] = 70.0
    a, b = certain.log_softmax(-1), draw.dist().to(dtype)
    assert bool((a.softmax(-1)[:, 5] == 1).all())
    removed = b.exp() > 1 - math.exp(-0.01)
    removed[:, 5] = False
    assert 0 < removed.sum() < removed.numel()
    found = INDICATOR.evaluate(a=a, b=b)
    torch.testing.assert_close(found, a.masked_fill(removed, -torch.inf).log_softmax(-1))
    torch.testing.assert_close(INDICATOR.evaluate(a=a, b=a), a)
