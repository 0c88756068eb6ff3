"""Rows kept aside for validation, prompt by prompt."""

import hashlib
from collections.abc import Iterable

from arith.errors import SpecError


def validation_prompts(digests: Iterable[bytes], fraction: float, seed: int) -> set[bytes]:
    """The prompts, by their digests, that a fraction of all sets aside; a row follows its prompt.

    Which those are depends on the prompts and the seed, not on their order. Each side gets one at least.
    Raises `SpecError` where there are not two different prompts.
    """
    prompts = set(digests)
    if len(prompts) < 2:
        raise SpecError(
            f"`data.validation` is {fraction}, but all usable rows have one and the same prompt",
            "a prompt stands on one side only; name a file of its own for validation",
        )
    count = min(max(round(fraction * len(prompts)), 1), len(prompts) - 1)
    salt = str(seed).encode()
    return set(sorted(prompts, key=lambda prompt: hashlib.blake2b(salt + prompt).digest())[:count])
