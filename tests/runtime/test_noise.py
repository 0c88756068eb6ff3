"""The rows' random numbers: exponential, independent, and a function of key, step and token alone."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from arith.runtime.sampling.noise import exponential_noise, row_key

ROOT = Path(__file__).resolve().parent.parent.parent
CPU = torch.device("cpu")


def keys(count: int, seed: int = 0) -> list[int]:
    return [row_key(seed, '"a prompt"', 0, sample) for sample in range(count)]


def uniform(rows: int, vocabulary: int, *, step: int = 0) -> Tensor:
    """The noise through its own distribution function, float64: uniform if it is Exp(1)."""
    noise = exponential_noise(keys(rows), [step] * rows, vocabulary, CPU)
    return -torch.expm1(-noise.double())


def correlation(left: Tensor, right: Tensor) -> float:
    """Pearson's, in units of its standard deviation under independence."""
    both = torch.stack([left.flatten(), right.flatten()])
    return float(torch.corrcoef(both)[0, 1]) * math.sqrt(left.numel())


def test_the_noise_is_exponential() -> None:
    sample = uniform(64, 4096).flatten().sort().values
    positions = (torch.arange(len(sample), dtype=torch.float64) + 0.5) / len(sample)
    # Kolmogorov-Smirnov: 1.95 is exceeded once in a thousand seeds.
    assert float((sample - positions).abs().max()) * math.sqrt(len(sample)) < 1.95


def test_the_smallest_numbers_are_as_frequent_as_they_should_be() -> None:
    noise = exponential_noise(keys(256), [0] * 256, 32768, CPU)
    for limit in (1e-3, 1e-4, 1e-5, 1e-6):
        expected = noise.numel() * limit
        assert abs(int((noise < limit).sum()) - expected) < 4 * math.sqrt(expected)


def test_every_number_is_positive_and_finite() -> None:
    noise = exponential_noise(keys(256), list(range(256)), 49152, CPU)
    assert noise.dtype == torch.float32
    assert bool((noise > 0).all())
    assert bool(torch.isfinite(noise).all())


@pytest.mark.parametrize("lag", [1, 2, 64, 256, 1024])
def test_tokens_of_a_row_are_independent(lag: int) -> None:
    sample = uniform(256, 4096)
    assert abs(correlation(sample[:, lag:], sample[:, :-lag])) < 4


def test_the_first_arrival_of_a_block_is_of_any_token_and_says_nothing_about_the_others() -> None:
    """Of independent Exp(1) numbers the smallest is Exp(64), its place uniform, and the rest behind it Exp(1)
    again."""
    noise = exponential_noise(keys(512), [3] * 512, 4096, CPU).double().view(-1, 64)
    first, places = noise.min(dim=-1)
    counts = torch.bincount(places, minlength=64).double()
    expected = len(places) / 64
    # 63 degrees of freedom: 103.4 is exceeded once in a thousand seeds.
    assert float(((counts - expected) ** 2 / expected).sum()) < 103.4
    behind = (noise - first.unsqueeze(-1))[torch.arange(64) != places.unsqueeze(-1)].view(-1, 63)
    for sample in (-torch.expm1(-64 * first), -torch.expm1(-behind[:, 0]), -torch.expm1(-behind[:, 62])):
        positions = (torch.arange(len(sample), dtype=torch.float64) + 0.5) / len(sample)
        assert float((sample.sort().values - positions).abs().max()) * math.sqrt(len(sample)) < 1.95
    assert abs(correlation(first, behind.mean(dim=-1))) < 4


def test_steps_of_a_row_are_independent() -> None:
    first = uniform(256, 4096)
    for step in (1, 2, 3, 1000):
        assert abs(correlation(first, uniform(256, 4096, step=step))) < 4


def test_rows_are_independent() -> None:
    sample = uniform(256, 4096)
    for lag in (1, 2, 128):
        assert abs(correlation(sample[lag:], sample[:-lag])) < 4


def test_keys_that_differ_in_one_bit_share_nothing() -> None:
    one = 0x0123456789ABCDEF
    neighbours = [one, *(one ^ (1 << bit) for bit in range(64))]
    noise = exponential_noise(neighbours, [5] * 65, 4096, CPU)
    for bit in range(64):
        assert abs(correlation(noise[0], noise[bit + 1])) < 4.5
    # 31 bits for each number: of 64 * 4096 pairs, none is expected to be equal.
    assert int((noise[1:] == noise[0]).sum()) <= 2


def test_the_winning_token_says_nothing_about_the_next_step() -> None:
    rows, vocabulary = 20_000, 4
    winners = [
        exponential_noise(keys(rows), [step] * rows, vocabulary, CPU).argmin(dim=-1) for step in (0, 1)
    ]
    pairs = torch.bincount(winners[0] * vocabulary + winners[1], minlength=vocabulary**2).double()
    expected = rows / vocabulary**2
    # 15 degrees of freedom: 37.7 is exceeded once in a thousand seeds.
    assert float(((pairs - expected) ** 2 / expected).sum()) < 37.7


@pytest.mark.parametrize("vocabulary", [5, 270, 4099, 49152])
def test_a_row_alone_equals_the_row_in_a_batch_bit_for_bit(vocabulary: int) -> None:
    batch, steps = keys(9), [0, 7, 3, 3, 1, 0, 12, 100, 2]
    together = exponential_noise(batch, steps, vocabulary, CPU)
    for row in range(9):
        alone = exponential_noise(batch[row : row + 1], steps[row : row + 1], vocabulary, CPU)
        assert torch.equal(alone[0], together[row])


def test_a_longer_vocabulary_leaves_the_first_tokens_as_they_are() -> None:
    short = exponential_noise(keys(3), [4] * 3, 1000, CPU)
    assert torch.equal(exponential_noise(keys(3), [4] * 3, 1007, CPU)[:, :1000], short)


def test_no_rows_make_no_noise() -> None:
    assert exponential_noise([], [], 10, CPU).shape == (0, 10)


def test_a_key_depends_on_each_of_its_parts() -> None:
    parts = [(0, '"a"', 0, 0), (1, '"a"', 0, 0), (0, '"b"', 0, 0), (0, '"a"', 1, 0), (0, '"a"', 0, 1)]
    assert len({row_key(*part) for part in parts}) == len(parts)
    assert all(0 <= row_key(*part) < 2**64 for part in parts)


def test_a_key_takes_any_prompt() -> None:
    assert row_key(0, '"\ud800 日本"', 0, 0) != row_key(0, '"日本"', 0, 0)


def test_keys_and_noise_are_the_same_in_another_process() -> None:
    program = (
        "from arith.runtime.sampling.noise import exponential_noise, row_key\n"
        "key = row_key(3, '\"hé\"', 1, 2)\n"
        "print(key, exponential_noise([key], [9], 5, 'cpu').tolist())"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    key = row_key(3, '"hé"', 1, 2)
    assert child.stdout.strip() == f"{key} {exponential_noise([key], [9], 5, CPU).tolist()}"


def test_the_numbers_do_not_change_from_one_version_to_the_next() -> None:
    """A resumed run has to repeat itself; here the hash is worked out in Python's integers."""
    key, step = row_key(0, '"x"', 0, 0), 2
    assert key == 4446918668323604642
    noise = exponential_noise([key], [step], 1000, CPU)[0]
    for token in range(1000):
        block, place = divmod(token, 64)
        expected = exponential(hashed(key ^ 0xA0761D6478BD642F, step, block)) / 64
        if place != hashed(key ^ 0xE7037ED1A0B428DB, step, block) >> 25:
            expected += exponential(hashed(key, step, token))
        assert float(noise[token]) == pytest.approx(expected, rel=1e-4, abs=0)


def hashed(key: int, step: int, number: int) -> int:
    """31 bits."""
    word = (key + (step + 1) * 0x9E3779B97F4A7C15) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    word ^= word >> 31
    code = ((number ^ (number >> 16)) * 0x7FEB352D) % 2**32
    code = ((code ^ (code >> 15)) * 0x846CA68B) % 2**32
    code ^= code >> 16
    bits = ((code ^ (word % 2**32)) * 0x7FEB352D) % 2**32
    bits = ((bits ^ (bits >> 15) ^ (word >> 32)) * 0x846CA68B) % 2**32
    bits ^= bits >> 16
    return bits ^ 0xFFFF0000 if bits >> 31 else bits


def exponential(bits: int) -> float:
    return -math.log1p(-(bits + 0.5) / 2**31)
