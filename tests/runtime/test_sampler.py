"""The choice of a token: an exact draw from the softmax of the scores, the same alone and in a batch."""

import pytest
import torch
from torch import Tensor

from arith.runtime.sampling import sampler
from arith.runtime.sampling.noise import exponential_noise, row_key, row_words, token_codes
from arith.runtime.sampling.sampler import PrunedRace, first_arrival, race, race_on

# The 0.999 quantile of the chi-square distribution, by degrees of freedom.
LIMIT = {4: 18.47, 7: 24.32, 9: 27.88}


def draws(scores: Tensor, count: int, *, step: int = 0) -> Tensor:
    """Tokens that `count` rows with the scores `[vocab]` choose under one seed."""
    keys = [row_key(7, '"a prompt"', 0, sample) for sample in range(count)]
    noise = exponential_noise(keys, [step] * count, len(scores), torch.device("cpu"))
    return first_arrival(scores.expand(count, -1), noise)


def chi_square(tokens: Tensor, probabilities: Tensor) -> float:
    counts = torch.bincount(tokens, minlength=len(probabilities)).double()
    expected = probabilities.double() * len(tokens)
    possible = expected > 0
    assert int(counts[~possible].sum()) == 0
    return float(((counts - expected) ** 2 / expected)[possible].sum())


@pytest.mark.parametrize("step", [0, 1, 500])
def test_samples_follow_the_softmax(step: int) -> None:
    scores = torch.tensor([0.0, -1.0, -0.5, -2.0, 1.0, -3.0, 0.2, -5.0])
    assert chi_square(draws(scores, 20_000, step=step), scores.softmax(-1)) < LIMIT[7]


def test_samples_of_one_row_over_its_steps_follow_the_softmax() -> None:
    scores = torch.linspace(-2, 1, 10)
    steps = list(range(20_000))
    noise = exponential_noise([row_key(0, '"x"', 0, 0)] * len(steps), steps, 10, torch.device("cpu"))
    assert chi_square(first_arrival(scores.expand(len(steps), -1), noise), scores.softmax(-1)) < LIMIT[9]


def test_tokens_outside_the_support_are_never_drawn() -> None:
    outside = float("-inf")
    scores = torch.tensor([outside, 0.3, outside, -0.7, -1.1, 0.9, -0.2, outside])
    assert chi_square(draws(scores, 20_000), scores.softmax(-1)) < LIMIT[4]


def test_a_row_with_one_token_chooses_it() -> None:
    scores = torch.full((300,), float("-inf"))
    scores[123] = -9.0
    assert set(draws(scores, 5000).tolist()) == {123}


def test_adding_a_number_to_a_row_changes_no_draw() -> None:
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws(scores, 2000), draws(scores - 64, 2000))


def test_low_scores_are_still_ordered() -> None:
    """At temperature 0.01 every exp(score) underflows to 0."""
    scores = torch.tensor([-300.0, -299.0, -301.0, -300.5, -299.5])
    assert chi_square(draws(scores, 20_000), scores.double().softmax(-1)) < LIMIT[4]


@pytest.mark.parametrize("vocabulary", [7, 271, 49153])
def test_a_row_chooses_the_same_alone_and_in_a_batch(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(12, vocabulary, generator=generator).log_softmax(-1)
    keys, steps = [row_key(0, '"p"', 0, row) for row in range(12)], list(range(12))
    together = first_arrival(scores, exponential_noise(keys, steps, vocabulary, torch.device("cpu")))
    for row in range(12):
        one = slice(row, row + 1)
        noise = exponential_noise(keys[one], steps[one], vocabulary, torch.device("cpu"))
        assert first_arrival(scores[one], noise).tolist() == [int(together[row])]


def test_neither_scores_nor_noise_are_written_to() -> None:
    scores, noise = torch.randn(3, 20), torch.rand(3, 20) + 0.1
    before = scores.clone(), noise.clone()
    first_arrival(scores, noise)
    assert torch.equal(scores, before[0])
    assert torch.equal(noise, before[1])


def both_races(scores: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The winners of the pruned race and of the whole one."""
    rows, vocabulary = scores.shape
    keys = [row_key(seed, '"p"', 0, row) for row in range(rows)]
    steps = list(range(rows))
    words = row_words(keys, steps, "cpu")
    return PrunedRace()(scores, keys, steps), race(scores, token_codes(vocabulary, "cpu"), words)


@pytest.mark.parametrize("vocabulary", [49152, 49153, 64 * 49, 4099])
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 2.0, 50.0])
def test_the_pruned_race_is_won_by_the_same_tokens(
    vocabulary: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "FEW", 0)
    generator = torch.Generator().manual_seed(vocabulary)
    for sharpness in (1.0, 4.0):
        scores = torch.randn(24, vocabulary, generator=generator) * sharpness / temperature
        pruned, whole = both_races(scores)
        assert torch.equal(pruned, whole)


def test_the_pruned_race_knows_rows_with_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token, the last one, one in each block, and none at all, whose row is lost without an error."""
    monkeypatch.setattr(sampler, "FEW", 0)
    scores = torch.full((4, 6401), float("-inf"))
    scores[0, 77], scores[1, 6400], scores[2, 63::64] = -300.0, 0.0, -2.0
    pruned, whole = both_races(scores)
    assert torch.equal(pruned, whole)
    assert pruned[:2].tolist() == [77, 6400]
    assert int(pruned[2]) % 64 == 63


def test_peaked_scores_are_decided_by_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(16, 49152, generator=torch.Generator().manual_seed(0)) * 3
    scores[:, 70::5000] += 20
    _, whole = both_races(scores)

    def fail(*_arguments: Tensor) -> Tensor:
        raise AssertionError("rows are raced as a whole")

    monkeypatch.setattr(sampler, "race", fail)
    keys = [row_key(0, '"p"', 0, row) for row in range(16)]
    assert torch.equal(PrunedRace()(scores, keys, list(range(16))), whole)


def test_samples_of_the_pruned_race_follow_the_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the blocks, and over the tokens of each."""
    monkeypatch.setattr(sampler, "FEW", 0)
    vocabulary = 64 * 52
    scores = torch.randn(vocabulary, generator=torch.Generator().manual_seed(5))
    keys = [row_key(3, '"p"', 0, row) for row in range(5_000)]
    tokens = PrunedRace()(scores.expand(5_000, -1), keys, [1] * 5_000)
    probabilities = scores.softmax(-1)
    # By blocks and by places: 51 and 63 degrees of freedom, 87.9 and 103.4 once in a thousand seeds.
    assert chi_square(tokens // 64, probabilities.view(-1, 64).sum(1)) < 87.9
    assert chi_square(tokens % 64, probabilities.view(-1, 64).sum(0)) < 103.4


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_the_compiled_race_is_won_by_the_same_tokens() -> None:
    """With the real compiler, for numbers of rows that it hasn't met, over a vocabulary of odd size."""
    compiled = race_on(torch.device("cpu"), "on")
    assert isinstance(race_on(torch.device("cpu"), "auto"), PrunedRace)
    codes = token_codes(4099, torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        for rows in (2, 1, 5, 33):
            scores = torch.randn(rows, 4099, generator=generator).log_softmax(-1)
            keys, steps = [row_key(0, '"p"', 0, row) for row in range(rows)], [7] * rows
            expected = race(scores, codes, row_words(keys, steps, "cpu"))
            assert torch.equal(compiled(scores, keys, steps), expected)
