"""How often each text comes, against how often it should."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

import pytest

Text = TypeVar("Text", bound=Hashable)


def assert_as_frequent(seen: Counter[Text], expected: Mapping[Text, float]) -> None:
    """Chi-square of counts against probabilities; what is expected less than five times counts as one.

    The bound lies four standard deviations above what is to be expected.
    """
    total = sum(seen.values())
    assert set(seen) <= set(expected) and sum(expected.values()) == pytest.approx(1, abs=1e-4)
    common = {text: share * total for text, share in expected.items() if share * total >= 5}
    rest = total - sum(common.values())
    square = sum((seen[text] - share) ** 2 / share for text, share in common.items())
    if rest > 1e-6:
        square += (total - sum(seen[text] for text in common) - rest) ** 2 / max(rest, 1.0)
    freedom = len(common)
    assert freedom > 1 and square < freedom + 4 * (2 * freedom) ** 0.5, (square, freedom)
