"""Ragged prefills in buckets of nearly equal length."""

from collections.abc import Sequence

PADDING = 0.02
CHUNK = 512
TOKENS_PER_FORWARD = 2048


def buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Indices into `lengths`, grouped so that padding to a group's longest stays under 2% of its tokens.

    A group runs `CHUNK` tokens of each row at a time, and at most `TOKENS_PER_FORWARD` in all.
    """
    groups: list[list[int]] = []
    longest = useful = 0
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        length = lengths[index]
        if groups:
            rows = len(groups[-1]) + 1
            fits = rows * min(longest, CHUNK) <= TOKENS_PER_FORWARD
            if fits and rows * longest - (useful + length) <= PADDING * rows * longest:
                groups[-1].append(index)
                useful += length
                continue
        groups.append([index])
        longest = useful = length
    return groups
