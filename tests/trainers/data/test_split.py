"""The prompts that a fraction sets aside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arith.errors import SpecError
from trainers.data.split import validation_prompts

PROMPTS = [bytes([number]) for number in range(200)]


@given(
    st.lists(st.sampled_from(PROMPTS), min_size=2).filter(lambda prompts: len(set(prompts)) > 1),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(),
)
def test_each_side_gets_a_prompt_and_the_number_is_the_nearest(
    prompts: list[bytes], fraction: float, seed: int
) -> None:
    aside = validation_prompts(prompts, fraction, seed)
    distinct = set(prompts)
    assert aside < distinct and aside
    assert abs(len(aside) - fraction * len(distinct)) <= 1
    assert validation_prompts([*reversed(prompts), *prompts], fraction, seed) == aside


def test_another_seed_sets_others_aside() -> None:
    splits = {frozenset(validation_prompts(PROMPTS, 0.1, seed)) for seed in range(20)}
    assert len(splits) == 20
    counts = [sum(prompt in split for split in splits) for prompt in PROMPTS]
    assert max(counts) <= 9  # of 20 draws with probability 0.1: 10 or more has probability 7e-6 each


def test_one_prompt_can_not_be_split() -> None:
    with pytest.raises(SpecError, match=r"`data.validation` is 0.5, but all usable rows have one"):
        validation_prompts([b"a", b"a"], 0.5, 0)
