"""The random numbers of a row: a pure function of its key, the step and the token, wherever the row runs."""

import functools
import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
# The largest float32 below 1, over 2^31: 31 random bits then give a number strictly between 0 and 1.
UNIT = (1 - 2**-24) / 2**31


def row_key(seed: int, prompt: str, occurrence: int, sample: int) -> int:
    """The 64-bit key of a row's random numbers, the same in every process.

    `prompt` is the prompt as canonical JSON, `occurrence` counts the equal prompts before it in the call,
    `sample` the samples of the prompt.
    """
    identity = json.dumps([seed, prompt, occurrence, sample]).encode("ascii")
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "little")


def exponential_noise(
    keys: Sequence[int], steps: Sequence[int], vocabulary: int, device: torch.device | str
) -> Tensor:
    """Independent Exp(1) numbers `[rows, vocabulary]`, float32, positive and finite.

    The number of a row at a token depends on the row's key, its step and the token's id only, so the rows of
    the batch, their order and the size of the vocabulary change nothing.
    """
    return noise_of(token_codes(vocabulary, device), *row_words(keys, steps, device))


def row_words(keys: Sequence[int], steps: Sequence[int], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """What a row at a step brings to its random numbers: the halves of a 64-bit word, int32 `[rows, 1]`
    each."""
    words = [_mix64(key + (step + 1) * GOLDEN_GAMMA) for key, step in zip(keys, steps, strict=True)]
    halves = [(_signed(word & 0xFFFFFFFF), _signed(word >> 32)) for word in words]
    first, second = torch.tensor(halves, dtype=torch.int32, device=device).reshape(-1, 2, 1).unbind(1)
    return first, second


def noise_of(codes: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The numbers `[rows, vocabulary]` from the tokens' codes `[1, vocabulary]` and the halves of the rows'
    words."""
    # A 32-bit integer hash (lowbias32). Its opening shift is part of the token codes, and the second half of
    # the row's key enters between its rounds, so two rows share their numbers only if all 64 bits agree.
    bits = codes ^ first
    bits *= 0x7FEB352D
    shifted = bits >> 15
    shifted &= 0x1FFFF  # torch shifts signed integers arithmetically; the hash needs zeros to come in
    bits ^= shifted
    bits ^= second
    bits *= _signed(0x846CA68B)
    # Here the copies of the sign that come in are welcome: they clear the sign bit and leave 31 uniform bits.
    bits ^= torch.bitwise_right_shift(bits, 16, out=shifted)
    # The smallest numbers decide the race, so they come from the end of the interval where floats are dense.
    uniform = bits.to(torch.float32).add_(0.5).mul_(-UNIT)
    return uniform.log1p_().neg_()


@functools.lru_cache(maxsize=8)
def token_codes(vocabulary: int, device: torch.device | str) -> Tensor:
    """One well mixed 32-bit code for each token id, `[1, vocabulary]`, int32; no two are equal."""
    codes = torch.arange(vocabulary, dtype=torch.int64)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        codes = ((codes ^ (codes >> shift)) * factor) & 0xFFFFFFFF
    codes ^= codes >> 16
    return codes.to(torch.int32).unsqueeze(0).to(device)


def _mix64(value: int) -> int:
    """The output function of SplitMix64: a step of a row is a step of that generator seeded with its key."""
    value &= 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def _signed(value: int) -> int:
    """The int32 of the same 32 bits."""
    return value - 2**32 if value >= 2**31 else value
