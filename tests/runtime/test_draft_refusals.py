"""A draft that can't be is refused in words, when the engine is made or called."""

from typing import Any

import pytest

from arith import LLM, Engine, Formula, FormulaError, OptionError
from tests.runtime.reference import raw


def engine_of(text: str, base: str, arm: str, **options: Any) -> Engine:
    return Engine(Formula(text, base=raw(base), arm=raw(arm)), **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"draft": "bose"}, "speculate: draft: unknown name `bose`"),
        ({"draft": "base +"}, "speculate: draft: the formula ends after"),
        ({"draft": "base", "lazy": ["arm"]}, "either `draft` or `lazy`"),
        ({}, "either `draft` or `lazy`"),
        ({"lazy": ["nobody"]}, "the formula has no operand `nobody`"),
        ({"lazy": ["base", "arm"]}, "these are all operands of the formula"),
        ({"draft": "base", "token": 3}, "unknown key `token`"),
        ({"draft": "base", "tokens": 0}, "`tokens` is 0: it has to be a whole number of at least 1"),
        (True, "speculate is True: it says what drafts"),
        ({"draft": "base", "tokens": 2.5}, "`tokens` is 2.5"),
        ({"draft": "w*base"}, "speculate: draft: the parameter `w` has no value"),
        ({"draft": "base + tokens(999)"}, "speculate: draft: there is no token 999"),
        ({"draft": LLM("elsewhere")}, "which this engine has not loaded"),
        ({"draft": "layer(base, 1)"}, "early layers that this engine was not made to tell"),
        ({"draft": 5}, "speculate: draft: expected a formula or an operand, not a int"),
        ({"lazy": 3}, "lazy is 3: it has to be a list of operands"),
    ],
)
def test_a_draft_that_can_not_be_is_refused(
    given: Any, message: str, tiny_llama: str, tiny_llama_other: str
) -> None:
    engine = engine_of("base + arm", tiny_llama, tiny_llama_other)
    with pytest.raises((OptionError, FormulaError)) as refused:
        engine.generate("a", max_new_tokens=2, speculate=given)
    assert message in str(refused.value)
    assert engine.generate("a", max_new_tokens=2)[0].token_ids


def test_a_token_that_the_draft_of_an_engine_names_is_looked_for_at_once(tiny_llama: str) -> None:
    with pytest.raises(FormulaError, match="speculate: draft: ") as refused:
        Engine(raw(tiny_llama), speculate={"draft": Formula("b + tokens(999)", b=raw(tiny_llama))})
    assert refused.value.span is not None and "999" in str(refused.value)


def test_a_name_means_in_a_draft_what_it_does_in_the_formula(tiny_llama: str, tiny_llama_other: str) -> None:
    base, other = raw(tiny_llama), raw(tiny_llama_other)
    formula, unbound = Formula("w*base", base=base, w=0.7), Formula("w*base", base=base)
    for draft, held in (
        (Formula("w*base", base=base, w=0.1), formula),
        (Formula("w*base", base=base, w=0.1), unbound),
        (Formula("base", base=other), formula),
        (Formula("w", w=other), formula),
    ):
        with pytest.raises(OptionError, match="is bound to another thing than in the formula"):
            Engine(held, speculate={"draft": draft})
        with pytest.raises(OptionError, match="is bound to another thing than in the formula"):
            Engine(held).generate("a", params={"w": 0.5}, speculate={"draft": draft})
    same = Engine(formula, speculate={"draft": Formula("w*base", base=base, w=0.7), "tokens": 2})
    assert same.generate("a", params={"w": 0.5}, max_new_tokens=4) and same.stats.drafted


def test_one_text_over_other_operands_is_another_draft(tiny_llama: str, tiny_llama_other: str) -> None:
    engine = Engine(raw(tiny_llama), speculate={"draft": Formula("s", s=raw(tiny_llama_other))})
    with pytest.raises(OptionError, match="which this engine has not loaded"):
        engine.generate("a", max_new_tokens=2, speculate={"draft": Formula("s", s=LLM("elsewhere"))})


def test_what_can_not_draft_is_told_as_the_draft(tiny_llama: str) -> None:
    formula = Formula("supersede(uniform(), a)", a=raw(tiny_llama))
    with pytest.raises(FormulaError, match="speculate: draft: a formula needs at least one operand"):
        Engine(formula)
    assert Engine(formula, speculate=False).generate("a", max_new_tokens=2)
    unvalued = Engine(Formula("supersede(w*a, a)", a=raw(tiny_llama)))
    assert unvalued.score("a", "b")
    with pytest.raises(FormulaError, match="speculate: draft: the parameter `w` has no value"):
        unvalued.generate("a", max_new_tokens=2)


@pytest.mark.parametrize("made", [False, "prompt_lookup"])
@pytest.mark.parametrize("called", [{}, {"tokens": 2}, {"draft": "small"}])
def test_what_was_not_to_draft_is_not_there_to_draft(
    made: Any, called: Any, tiny_llama: str, tiny_llama_other: str
) -> None:
    formula = Formula("supersede(small, large)", small=raw(tiny_llama_other), large=raw(tiny_llama))
    engine = Engine(formula, speculate=made)
    with pytest.raises(OptionError, match="the draft needs `small`, which this engine has not loaded"):
        engine.generate("a", max_new_tokens=2, speculate=called)
    assert engine.generate("a", max_new_tokens=2)
