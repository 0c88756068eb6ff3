"""Several formulas in one: in a row of each it is that formula, whatever the others are."""

import pytest
import torch

from arith import LLM, Formula, FormulaError
from arith.language.alternatives import alternatives, picked

VOCABULARY = 7
A, B, C = LLM("a"), LLM("b"), LLM("c")


def log_probs(seed: int) -> torch.Tensor:
    return torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def test_in_a_row_of_one_formula_it_is_that_formula() -> None:
    sides = {
        "plain": Formula("base + w*arm", base=A, arm=B, w=0.5),
        "curved": Formula("x = min(base, arm)\nnormalize(x) - 0.3*third", base=A, arm=B, third=C),
        "cut": Formula("top_k(base, 3)", base=A),
    }
    joint = alternatives(sides)
    values = {"base": log_probs(1), "arm": log_probs(2), "third": log_probs(3)}
    for name, side in sides.items():
        own = {one: values[one] for one in side.operands}
        found = joint.evaluate(**values, **picked(sides, name))
        torch.testing.assert_close(found, side.evaluate(**own), rtol=1e-5, atol=1e-5)
    assert torch.equal(joint.evaluate(**values), joint.evaluate(**values, **picked(sides, "plain")))


def test_only_the_operands_of_the_picked_formula_are_needed() -> None:
    sides = {"one": Formula("base + arm", base=A, arm=B), "two": Formula("base - third", base=A, third=C)}
    joint = alternatives(sides)
    for name, side in sides.items():
        assert joint.program.needed(joint.parameter_values(picked(sides, name))) == set(side.operands)


def test_a_name_of_another_operand_is_told_apart() -> None:
    joint = alternatives(
        {"one": Formula("base", base=A), "two": Formula("base + base_two", base=B, base_two=C)}
    )
    assert joint.bindings["base"] == A
    renamed = {name for name, operand in joint.bindings.items() if operand == B}
    assert len(renamed) == 1 and renamed.isdisjoint({"base", "base_two"})
    assert set(joint.bound_operands().values()) == {A, B, C}


def test_definitions_of_one_name_stay_apart() -> None:
    sides = {"one": Formula("x = 2*base\nx", base=A), "two": Formula("x = 3*base\nx", base=A)}
    joint, values = alternatives(sides), log_probs(4)
    for name, times in (("one", 2), ("two", 3)):
        found = joint.evaluate(base=values, **picked(sides, name))
        expected = (times * values).log_softmax(-1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ({"one": Formula("is_one*base", base=A)}, "`is_one` tells formulas apart"),
        ({"one": Formula("base", base=A), "two": Formula("is_one*base", base=A)}, "`is_one` tells formulas"),
        ({"one": Formula("formula_one", formula_one=A)}, "`formula_one`"),
        (
            {
                "one": Formula("base + w*a", base=A, a=B, w=1.0),
                "two": Formula("base + w*a", base=A, a=B, w=2.0),
            },
            "`w` is bound to two different things",
        ),
    ],
)
def test_a_name_that_would_mean_two_things_is_refused(sides: dict[str, Formula], words: str) -> None:
    with pytest.raises(FormulaError) as raised:
        alternatives(sides)
    assert words in str(raised.value)
