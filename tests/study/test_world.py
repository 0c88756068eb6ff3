"""A world whose rewards are known: what a sweep measures there is what the closed form says."""

from collections import Counter
from typing import Any

import pytest
import torch

from arith import LLM, Engine, Formula
from tests.study.world import NEVER, save_constant

TOKENS = tuple(map(ord, "abcdefgh"))  # of the byte tokenizer a token's id is its byte
BASE = torch.tensor([0.0, 0.5, -0.5, 1.0, 0.2, -1.0, 0.0, 0.3])
REWARDS = {
    "help": torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0, 0.3, -0.7, 0.0]),
    "harm": torch.tensor([-1.0, 1.2, 0.0, 0.4, -1.5, 1.0, 0.6, -0.3]),
}
WEIGHTS = [0.0, 0.6, 1.5]
PROMPTS = ["one", "two", "three", "four"]
CHI_SQUARE_7 = 29.88  # exceeded with probability 1e-4 by chance, at 7 degrees of freedom
Z = 4.5

Counts = dict[tuple[float, float], torch.Tensor]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    """How often each token was written at each point of a sweep over both weights."""
    folder = tmp_path_factory.mktemp("world")

    def operand(name: str, values: torch.Tensor, elsewhere: float) -> LLM:
        logits = dict(zip(TOKENS, values.tolist(), strict=True))
        return LLM(save_constant(folder / name, logits, elsewhere), template="raw")

    rewards = {name: operand(name, values, elsewhere=0.0) for name, values in REWARDS.items()}
    engine = Engine(Formula("base + h*help + s*harm", base=operand("base", BASE, elsewhere=NEVER), **rewards))
    found: dict[tuple[float, float], Counter[int]] = {}
    options: dict[str, Any] = {"num_return_sequences": 8, "max_new_tokens": 16, "seed": 5}
    for result in engine.sweep(PROMPTS, {"h": WEIGHTS, "s": WEIGHTS}, **options):
        point = (float(result.point["h"]), float(result.point["s"]))
        found.setdefault(point, Counter()).update(result.token_ids)
    assert all(set(counter) <= set(TOKENS) for counter in found.values())
    return {point: torch.tensor([float(one[token]) for token in TOKENS]) for point, one in found.items()}


def closed_form(h: float, s: float) -> torch.Tensor:
    """The policy that the rewards define: softmax(base + Σ w·r)."""
    return (BASE + h * REWARDS["help"] + s * REWARDS["harm"]).softmax(0)


def test_every_point_samples_from_the_closed_form(counts: Counts) -> None:
    assert len(counts) == len(WEIGHTS) ** 2
    for point, observed in counts.items():
        assert observed.sum() == len(PROMPTS) * 8 * 16
        expected = closed_form(*point) * observed.sum()
        assert float(((observed - expected) ** 2 / expected).sum()) < CHI_SQUARE_7, point


def test_mean_rewards_match_the_closed_form_within_sampling_error(counts: Counts) -> None:
    for point, observed in counts.items():
        policy, total = closed_form(*point), float(observed.sum())
        for reward in REWARDS.values():
            mean = float((policy * reward).sum())
            deviation = float((policy * (reward - mean) ** 2).sum()) ** 0.5
            measured = float((observed * reward).sum()) / total
            assert abs(measured - mean) < Z * deviation / total**0.5, point


def test_the_test_tells_another_policy_apart(counts: Counts) -> None:
    """With the normalisation by the sum of weights that others do in hiding, the bounds are broken."""
    observed = counts[1.5, 0.6]
    expected = closed_form(1.5, 0.6).pow(1 / 3.1)
    expected *= observed.sum() / expected.sum()
    assert float(((observed - expected) ** 2 / expected).sum()) > 5 * CHI_SQUARE_7


def test_a_reward_rises_with_its_weight(counts: Counts) -> None:
    for number, reward in enumerate(REWARDS.values()):
        for other in WEIGHTS:
            means = []
            for own in WEIGHTS:
                observed = counts[(own, other) if number == 0 else (other, own)]
                means.append(float((observed * reward).sum() / observed.sum()))
            assert means[0] < means[1] < means[2], (number, other, means)
