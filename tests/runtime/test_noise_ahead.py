"""Noise that is made for some steps at once: the same numbers as at each step by itself."""

import pytest
import torch

from arith.runtime.sampling import noise_ahead
from arith.runtime.sampling.noise import block_noise, row_key, row_words, token_codes
from arith.runtime.sampling.noise_ahead import NoiseAhead, RowNoise

CODES = token_codes(6401, "cpu")
KEYS = [row_key(0, '"p"', 0, row) for row in range(70)]


def check(found: RowNoise, keys: list[int], steps: list[int], codes: torch.Tensor = CODES) -> None:
    words = row_words(keys, steps, "cpu")
    arrivals, leaders = block_noise(codes, words)
    assert torch.equal(found.words, words)
    assert torch.equal(found.arrivals, arrivals)
    assert torch.equal(found.leaders, leaders)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many steps at once noise was made."""
    found: list[int] = []
    make = noise_ahead._made

    def noted(codes: torch.Tensor, keys: list[int], steps: list[int], count: int) -> list[RowNoise]:
        found.append(count)
        return make(codes, keys, steps, count)

    monkeypatch.setattr(noise_ahead, "_made", noted)
    return found


@pytest.mark.parametrize("rows", [1, 3, 20, 70])
def test_rows_that_go_on_have_the_noise_of_each_step(rows: int, made: list[int]) -> None:
    ahead = NoiseAhead()
    first = [(row * 7) % 5 + ((row % 2) << 32) for row in range(rows)]  # every second one went back once
    for step in range(40):
        steps = [start + step for start in first]
        check(ahead(CODES, KEYS[:rows], steps), KEYS[:rows], steps)
    limit = {1: 16, 3: 16, 20: 3, 70: 1}[rows]
    assert max(made) == limit
    assert made[:2] == [1, 1]
    assert sum(made) < 2 * 40


def test_rows_that_come_otherwise_have_theirs(made: list[int]) -> None:
    """Another step, fewer rows, another order, the same step again, and another vocabulary."""
    ahead, keys, other = NoiseAhead(), KEYS[:3], token_codes(700, "cpu")
    steps = [4, 9, 0]
    for _ in range(7):
        check(ahead(CODES, keys, steps), keys, steps)
        steps = [step + 1 for step in steps]
    check(ahead(CODES, keys, [20, 9, 3]), keys, [20, 9, 3])
    check(ahead(CODES, keys[:2], [21, 10]), keys[:2], [21, 10])
    check(ahead(CODES, keys[1::-1], [22, 11]), keys[1::-1], [22, 11])
    check(ahead(CODES, keys[1::-1], [22, 11]), keys[1::-1], [22, 11])
    check(ahead(other, keys[1::-1], [23, 12]), keys[1::-1], [23, 12], other)
    assert made[-5:] == [1] * 5


def test_lists_that_change_later_are_not_looked_at(made: list[int]) -> None:
    ahead, keys, steps = NoiseAhead(), KEYS[:2], [0, 0]
    for _ in range(5):
        check(ahead(CODES, keys, steps), keys, steps)
        steps[:] = [step + 1 for step in steps]
    assert made == [1, 1, 2, 4]
