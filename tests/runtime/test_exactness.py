"""Texts come as often as the formula says: frequencies of whole texts of three tokens out of five, against
enumeration; plain, drafted and lazy; in ragged batches and over many seeds."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import Engine, Formula
from tests.runtime.frequencies import assert_as_frequent
from tests.runtime.reference import plain, raw

ALLOWED = (97, 98, 99, 100, 101)
MASK = f"tokens({', '.join(map(str, ALLOWED))})"
PROMPTS = ("ab", "the rain in spain", "x")
LENGTH, SEEDS, SAMPLES = 3, 12, 60

FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "base + 0.5*arm": lambda base, arm: base + 0.5 * arm,
    "max(base, arm)": torch.maximum,
    "log(0.7*p(base) + 0.3*p(arm))": lambda base, arm: (0.7 * base.exp() + 0.3 * arm.exp()).log(),
    "supersede(base, arm) + 0*base": lambda _base, arm: arm,
}
WAYS: dict[str, Any] = {
    "plain": False,
    "two tokens drafted": {"draft": f"within(base, {MASK})", "tokens": 2},
    "drafted as it pays": {"draft": f"within(arm, {MASK})", "tokens": "auto"},
    "drafted badly": {"draft": f"within(-2*base, {MASK})", "tokens": 3},
    "lazy": {"lazy": "arm", "tokens": 2},
    "looked up": {"draft": "prompt_lookup", "tokens": 3},
    "superseded": None,
}


@functools.cache
def probabilities(text: str, prompt: str, models: tuple[str, str]) -> Mapping[tuple[int, ...], float]:
    """Of each text behind the prompt, from plain forwards of whole sequences."""
    combine = FORMULAS[text]
    found = {}
    for tokens in product(ALLOWED, repeat=LENGTH):
        ids = [*plain(models[0]).raw(prompt), *tokens[:-1]]
        base, arm = (plain(model).log_probs(ids, LENGTH).double() for model in models)
        step = combine(base, arm)[:, list(ALLOWED)].log_softmax(-1)
        total = sum(step[n, ALLOWED.index(token)] for n, token in enumerate(tokens))
        found[tokens] = float(torch.as_tensor(total).exp())
    return found


CASES = [
    (text, way)
    for text, way in product(FORMULAS, WAYS)
    if (way == "superseded") == text.startswith("supersede")
]


@pytest.mark.parametrize(("text", "way"), CASES)
def test_texts_are_as_frequent_as_the_formula_says(
    text: str, way: str, tiny_llama: str, tiny_llama_other: str
) -> None:
    operands = {"base": raw(tiny_llama), "arm": raw(tiny_llama_other)}
    engine = Engine(Formula(f"within({text}, {MASK})", **operands), max_rows=50)
    seen: dict[str, Counter[tuple[int, ...]]] = {prompt: Counter() for prompt in PROMPTS}
    engine.stats.reset()
    for seed in range(SEEDS):
        options = {"max_new_tokens": LENGTH, "num_return_sequences": SAMPLES, "seed": seed}
        for one in engine.generate(list(PROMPTS), speculate=WAYS[way], **options):
            seen[PROMPTS[one.index]][tuple(one.token_ids)] += 1
    assert (engine.stats.drafted > 0) == (way != "plain")
    for prompt in PROMPTS:
        assert_as_frequent(seen[prompt], probabilities(text, prompt, (tiny_llama, tiny_llama_other)))
