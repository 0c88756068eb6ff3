"""Operators whose values the run supplies, on values that are given: against plain torch."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.language import Formula
from grammar.errors import FormulaError

F64 = torch.float64
VOCABULARY = 8
TEXTS = [" yes", " no", " No", "!", "", "</s>", " maybe", "\n"]
ROWS = 3


def random_log_probs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, VOCABULARY, dtype=F64, generator=generator).mul(2).log_softmax(-1)


BASE, ARM, EARLY = (random_log_probs(seed) for seed in (1, 2, 3))
LABEL = random_log_probs(4)  # a classifier's values of the text with each token
BEFORE = torch.tensor([-0.3, -1.0, -2.0], dtype=F64)  # and of the text without
TOTAL = torch.tensor([0.0, -4.0, -30.0], dtype=F64)


def close(found: Tensor, log_weights: Tensor) -> None:
    torch.testing.assert_close(found, log_weights.log_softmax(-1), rtol=0, atol=1e-12)


def test_an_early_exit_is_a_dist_of_its_own_and_is_normalised_where_that_shows() -> None:
    shifted = {"layer(base, 2)": EARLY + torch.tensor([[5.0], [-3.0], [0.0]], dtype=F64)}
    close(Formula("base - 0.5*layer(base, 2)").evaluate(base=BASE, **shifted), BASE - 0.5 * EARLY)
    close(Formula("max(base, layer(base, 2))").evaluate(base=BASE, **shifted), torch.maximum(BASE, EARLY))
    same_block = Formula("layer(base, 1 + 1) + layer(b, 2)\n", base=object())
    assert same_block.program.calls("layer") == ({"operand": "base", "k": 2.0}, {"operand": "b", "k": 2.0})


def test_an_operand_of_which_only_an_early_exit_is_used_needs_no_value_of_its_own() -> None:
    formula = Formula("layer(base, 2) + arm")
    assert formula.operands == ("base", "arm")
    close(formula.evaluate(arm=ARM, **{"layer(base, 2)": EARLY}), EARLY + ARM)


def test_a_running_total_is_a_scalar_of_each_row() -> None:
    formula = Formula("base + 0.1*log_likelihood(arm)*arm")
    found = formula.evaluate(base=BASE, arm=ARM, **{"log_likelihood(arm)": TOTAL})
    close(found, BASE + 0.1 * TOTAL[:, None] * ARM)


def test_positions_and_truths_are_numbers() -> None:
    found = Formula("base + (t + prompt_length)*arm + true*arm - false*base").evaluate(
        base=BASE, arm=ARM, t=torch.tensor([0.0, 1.0, 2.0]), prompt_length=0.5
    )
    close(found, BASE + (torch.tensor([[0.5], [1.5], [2.5]], dtype=F64) + 1) * ARM)


def naive_guide(k: int, bayes: bool) -> tuple[Tensor, Tensor]:
    """The guide's values and the candidates, one token at a time."""
    values, inside = torch.zeros(ROWS, VOCABULARY, dtype=F64), torch.zeros(ROWS, VOCABULARY, dtype=torch.bool)
    for row in range(ROWS):
        likely = sorted(range(VOCABULARY), key=lambda token: -float(BASE[row, token]))[:k]
        for token in range(VOCABULARY):
            value = LABEL[row, token] if token in likely else BEFORE[row]
            values[row, token] = value - BEFORE[row] if bayes else value
            inside[row, token] = token in likely
    return values, inside


@pytest.mark.parametrize("bayes", [True, False])
@pytest.mark.parametrize("restrict", [True, False])
def test_a_guide_is_the_value_of_each_candidate_and_neutral_or_closed_elsewhere(
    bayes: bool, restrict: bool
) -> None:
    flags = f"bayes={str(bayes).lower()}, restrict={str(restrict).lower()}"
    formula = Formula(f"base - 2*guide(formal, on=base, k=3, {flags})")
    assert formula.operands == ("base", "formal")
    values, inside = naive_guide(3, bayes)
    expected = BASE - 2 * values
    found = formula.evaluate(base=BASE, formal=(LABEL, BEFORE))
    close(found, expected.masked_fill(~inside, -torch.inf) if restrict else expected)


def test_candidates_outside_the_support_of_the_proposal_count_as_no_candidates() -> None:
    formula = Formula("base + guide(formal, on=min_p(base, 1), k=4, restrict=true)")
    found = formula.evaluate(base=BASE, formal=(LABEL, BEFORE))
    assert found.isfinite().sum(-1).tolist() == [1, 1, 1]


def test_guidance_counts_nothing_in_an_average() -> None:
    values = naive_guide(3, bayes=True)[0]
    for flags in ("", ", restrict=true"):
        formula = Formula(f"average(2*base + 3*guide(formal, on=base, k=3{flags}))")
        found = formula.evaluate(base=BASE, formal=(LABEL, BEFORE))
        expected = (2 * BASE + 3 * values) / 2
        close(found, expected if not flags else expected.masked_fill(~naive_guide(3, True)[1], -torch.inf))


def test_a_strength_is_a_weight() -> None:
    strengths = {"strength(formal)": BEFORE.exp(), "strength(formal, prompt=true)": 0.25}
    formula = Formula("base + strength(formal)*arm - strength(formal, prompt=true)*arm")
    found = formula.evaluate(base=BASE, arm=ARM, **strengths)
    close(found, BASE + (BEFORE.exp()[:, None] - 0.25) * ARM)


def test_gradients_flow_through_what_is_given() -> None:
    def run(base: Tensor, early: Tensor, label: Tensor, before: Tensor) -> Tensor:
        formula = Formula("base - 0.5*layer(base, 2) + guide(formal, on=base, k=3)")
        return formula.evaluate(base=base, formal=(label, before), **{"layer(base, 2)": early})

    inputs = [tensor.clone().requires_grad_() for tensor in (BASE, EARLY, LABEL, BEFORE)]
    assert torch.autograd.gradcheck(run, inputs)


MASKS = {
    'tokens(" no")': [1],
    'tokens(" no", 3, "\\n")': [1, 3, 7],
    'matching(" [a-z]+")': [0, 1, 6],
    'matching(".*")': [0, 1, 2, 3, 4, 5, 6],
    'matching("</s>|(?i: no)")': [1, 2, 5],
    'matching("[!--a]")': [3],
    'complement(matching(".+|\\n"))': [4],
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_set_of_tokens_is_a_mask(mask: str) -> None:
    inside = torch.zeros(VOCABULARY, dtype=torch.bool)
    inside[MASKS[mask]] = True
    restricted = Formula(f"within(base, {mask})").evaluate(base=BASE, vocabulary=TEXTS)
    close(restricted, BASE.masked_fill(~inside, -torch.inf))
    weighted = Formula(f"base - 2*{mask}").evaluate(base=BASE, vocabulary=TEXTS)
    close(weighted, BASE - 2 * inside.double())


def test_excepted_tokens_are_out_and_numbers_need_no_texts() -> None:
    found = Formula("except_tokens(base, 1, 3) - 0.5*arm").evaluate(base=BASE, arm=ARM)
    expected = (BASE - 0.5 * ARM).index_fill(1, torch.tensor([1, 3]), -torch.inf)
    close(found, expected)


def test_the_uniform_distribution_is_flat_and_counts_as_a_distribution() -> None:
    flat = torch.full((1, VOCABULARY), 1 / VOCABULARY, dtype=F64).log()
    close(Formula("max(base, uniform())").evaluate(base=BASE), torch.maximum(BASE, flat))
    close(Formula("0.5*base + uniform()").evaluate(base=BASE), 0.5 * BASE)
    found = Formula("base*kl(base, uniform())").evaluate(base=BASE)
    kl = (BASE.exp() * (BASE - flat)).sum(-1, keepdim=True)
    close(found, kl * BASE)


def test_a_superseding_operand_is_the_whole_distribution() -> None:
    formula = Formula("supersede(small, 2*large) + 0.1*base")
    assert formula.operands == ("small", "large", "base")
    close(formula.evaluate(small=ARM, large=EARLY, base=BASE), 2 * EARLY + 0.1 * BASE)
    close(formula.evaluate(large=EARLY, base=BASE), 2 * EARLY + 0.1 * BASE)
    assert formula.program.needed({}) == {"large", "base"}


@pytest.mark.parametrize(
    ("text", "meaning", "superseded"),
    [
        ("supersede(a, b)", "b", ("a",)),
        ("supersede(large=b, small=a)", "b", ("a",)),
        ("supersede(a, b) + 0.1*a", "b + 0.1*a", ()),
        ("supersede(a, b + w*a)", "b + w*a", ()),
        ("supersede(v*a, b + w*c)", "b + w*c", ("a", "v")),
        ("s = a + 0.1*c\nsupersede(s, b)", "b", ("a", "c")),
        ("s = a + 0.1*c\nl = b - 0.1*c\nsupersede(s, l)", "l = b - 0.1*c\nl", ("a",)),
        ("supersede(supersede(a, c), supersede(c, b))", "b", ("a", "c")),
        ("supersede(a*(t + prompt_length) + layer(c, 1), b)", "b", ("a", "c")),
        ("supersede(a + guide(k, on=a, k=3), b)", "b", ("a", "k")),
        ("average(supersede(a, b - 0.6*c) + c)", "average(b - 0.6*c + c)", ("a",)),
        ("average(max(supersede(a, 2*b), c))", "average(max(2*b, c))", ("a",)),
        ("a + b", "a + b", ()),
    ],
)
def test_what_supersedes_is_all_that_a_formula_means(
    text: str, meaning: str, superseded: tuple[str, ...]
) -> None:
    formula, plain = Formula(text), Formula(meaning)
    assert str(formula.program) == str(plain.program)
    for names in ("operands", "classifiers", "parameters", "positions"):
        assert getattr(formula.program, names) == getattr(plain.program, names), "in the same order"
    known = {*formula.operands, *formula.parameters}
    assert known == {*plain.operands, *plain.parameters, *superseded}, "all may be bound"


def test_a_parameter_of_what_only_drafts_may_lack_a_value() -> None:
    formula = Formula("supersede(v*a, w*b)")
    assert formula.parameters == ("v", "w")
    assert formula.parameter_values({"w": 2}) == {"w": 2}
    assert formula.parameter_values({"w": 2, "v": 3}) == {"v": 3, "w": 2}
    with pytest.raises(FormulaError, match="the parameter `w` has no value"):
        formula.parameter_values({"v": 3})
    close(formula.evaluate(b=BASE, w=2), 2 * BASE)
    close(Formula("supersede(v*a, w*b)", v=0.5).evaluate(a=ARM, b=BASE, w=2), 2 * BASE)


def test_an_operand_under_weight_0_is_not_asked() -> None:
    formula = Formula("base + a*guide(formal, on=base, k=3) + b*layer(arm, 2) + c*log_likelihood(late)*base")
    needed = formula.program.needed
    assert needed({"a": 1, "b": 1, "c": 1}) == {"base", "formal", "arm", "late"}
    assert needed({"a": 0, "b": 0, "c": 1}) == {"base", "late"}
    assert needed({"a": 1, "b": 0, "c": 0}) >= {"base", "formal"}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("base - layer(base, 2)", {"base": BASE}, "no value is given for `layer(base, 2)`"),
    ("base + guide(f, base, 2)", {"base": BASE, "f": LABEL}, "classifier `f` has to be a pair"),
    ("base + guide(f, base, 99)", {"base": BASE, "f": (LABEL, 0.0)}, "`k` of `guide` is 99, and the vocab"),
    ('base - tokens("x")', {"base": BASE}, "no value is given for `vocabulary`"),
    ('base - tokens("x")', {"base": BASE, "vocabulary": TEXTS}, 'no token of the vocabulary is "x"'),
    ('base - tokens("no")', {"base": BASE, "vocabulary": TEXTS}, 'there is " no"'),
    (
        'base - tokens("x")',
        {"base": BASE, "vocabulary": ["x", "x"] * 4},
        '8 tokens have the text "x": 0, 1, 2, 3, 4, …',
    ),
    ("base - tokens(8)", {"base": BASE}, "there is no token 8: the vocabulary has 8"),
    ('base - tokens("x")', {"base": BASE, "vocabulary": TEXTS[1:]}, "the texts of all 8 tokens"),
]


@pytest.mark.parametrize(
    ("text", "values", "message"), BAD, ids=[f"{case[0]}-{n}" for n, case in enumerate(BAD)]
)
def test_values_that_do_not_fit_are_refused(text: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(FormulaError, match=re.escape(message)):
        Formula(text).evaluate(**values)


def test_a_guide_that_gives_nan_is_named() -> None:
    broken = LABEL.clone()
    broken[1] = torch.nan
    with pytest.raises(FormulaError, match=r"`guide\(f, base, 2\)` is not finite, at row 1"):
        Formula("base + guide(f, base, 2)").evaluate(base=BASE, f=(broken, BEFORE))
