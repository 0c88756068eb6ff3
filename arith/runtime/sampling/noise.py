"""The random numbers of a row: a pure function of its key, the step and the token, wherever the row runs."""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arith.runtime.sending import send

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
# The largest float32 below 1, over 2^31: 31 random bits then give a number strictly between 0 and 1.
UNIT = (1 - 2**-24) / 2**31
# The streams of a row: numbers of tokens, of blocks, and of which token of a block comes first.
STREAMS = np.array([0, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)
BLOCK_BITS = 6
BLOCK = 1 << BLOCK_BITS
"""How many tokens a block has."""


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
    return noise_of(token_codes(vocabulary, device), row_words(keys, steps, device))[:, :vocabulary]


def row_words(keys: Sequence[int], steps: Sequence[int], device: torch.device | str) -> Tensor:
    """What rows at a step bring to their random numbers: the halves of a 64-bit word for each of the streams
    of `STREAMS`, int32 `[streams, 2, rows, 1]`."""
    own, ahead = np.array(keys, dtype=np.uint64), np.array(steps, dtype=np.uint64) + np.uint64(1)
    words = _mix64((own ^ STREAMS[:, None]) + ahead * GOLDEN_GAMMA)
    halves = words.astype("<u8").view("<i4").reshape(len(STREAMS), len(keys), 2, 1)  # the low one first
    return send(np.ascontiguousarray(halves.transpose(0, 2, 1, 3)), torch.device(device), torch.int32)


def noise_of(codes: Tensor, words: Tensor) -> Tensor:
    """The numbers `[rows, tokens]` from the tokens' codes `[1, tokens]`, whole blocks of them, and the rows'
    words.

    The first arrival of a block's 64 tokens is an Exp(1) number over 64, its token any of them, and how long
    after it each other token comes is Exp(1) again: an exponential clock has no memory. So all numbers are
    independent, and one of them tells that a block comes too late (see `PrunedRace`).
    """
    blocks = codes.view(1, -1, BLOCK)
    return noise_in_blocks(blocks, words, *block_noise(codes, words)).flatten(1)


def block_noise(codes: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The first arrival in each block of tokens, float32 `[rows, blocks]`, and the place in the block,
    int32, of the token that comes then. `codes` are those of all tokens."""
    blocks = codes[:, : codes.shape[-1] // BLOCK]
    arrivals, leaders = _hash(blocks, words[1:].transpose(0, 1)).unbind()
    arrivals = _exponential(arrivals)
    return arrivals.div_(_number(BLOCK, arrivals)), leaders >> _number(31 - BLOCK_BITS, leaders)


def noise_in_blocks(codes: Tensor, words: Tensor, arrivals: Tensor, leaders: Tensor) -> Tensor:
    """The numbers `[rows, blocks, 64]` of blocks with these tokens' codes `[rows or 1, blocks, 64]`, and with
    these first arrivals and their places `[rows, blocks]`."""
    noise = _exponential(_hash(codes, words[0].unsqueeze(-1)))
    places = leaders.unsqueeze(-1)
    if torch.compiler.is_compiling():  # without an index, so that all is one kernel
        noise.masked_fill_(torch.arange(BLOCK, dtype=torch.int32, device=codes.device) == places, 0.0)
    else:
        noise.scatter_(-1, places.to(torch.int64), 0.0)
    noise += arrivals.unsqueeze(-1)
    return noise


def _hash(codes: Tensor, halves: Tensor) -> Tensor:
    """31 random bits for each code under the halves of a word: a 32-bit integer hash (lowbias32)."""
    first, second = halves.unbind()
    # Its opening shift is part of the codes, and the second half of the word enters between its rounds, so
    # two words share their numbers only if all 64 bits agree.
    bits = codes ^ first
    bits *= _number(0x7FEB352D, codes)
    shifted = bits >> _number(15, codes)
    # torch shifts signed integers arithmetically; the hash needs zeros to come in
    shifted &= _number(0x1FFFF, codes)
    bits ^= shifted
    bits ^= second
    bits *= _number(_signed(0x846CA68B), codes)
    # Here the copies of the sign that come in are welcome: they clear the sign bit and leave 31 uniform bits.
    bits ^= torch.bitwise_right_shift(bits, _number(16, codes), out=shifted)
    return bits


def _exponential(bits: Tensor) -> Tensor:
    """Exp(1) numbers from uniform bits."""
    # The smallest numbers decide the race, so they come from the end of the interval where floats are dense.
    uniform = bits.to(torch.float32)
    uniform.add_(_number(0.5, uniform)).mul_(_number(-UNIT, uniform))
    return uniform.log1p_().neg_()


def _number(value: float, operand: Tensor) -> Any:
    """A number as what `operand` is best computed with. On a CPU that is a tensor: torch would make one of
    the number, and convert it, in every call, at a few microseconds each."""
    if operand.device.type != "cpu" or torch.compiler.is_compiling():
        return value
    return _tensor(value, operand.dtype)


@functools.cache
def _tensor(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


@functools.lru_cache(maxsize=8)
def token_codes(vocabulary: int, device: torch.device | str) -> Tensor:
    """One well mixed 32-bit code for each token id, int32 `[1, tokens]`, filled up to whole blocks; no two
    are equal."""
    codes = torch.arange(-(-vocabulary // BLOCK) * BLOCK, dtype=torch.int64)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        codes = ((codes ^ (codes >> shift)) * factor) & 0xFFFFFFFF
    codes ^= codes >> 16
    return codes.to(torch.int32).unsqueeze(0).to(device)


def _mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64: a step of a row is a step of that generator seeded with its key."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _signed(value: int) -> int:
    """The int32 of the same 32 bits."""
    return value - 2**32 if value >= 2**31 else value
