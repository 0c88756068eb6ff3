"""What judging will take, and what it has taken."""

import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from arith.study.judging.keys import Price
from arith.study.judging.reply import Reply

ASCII, OTHERS = 4, 2
"""Bytes of UTF-8 in a token, by a rule of thumb: of English, and of what isn't ASCII (Chinese characters have
three)."""
MILLION = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """What is to be asked.

    requests: to be sent; `known`, whose replies are there already.
    input_tokens: of the requests, by a rule of thumb.
    output_tokens: of the replies at most; None without a limit.
    """

    requests: int
    known: int
    input_tokens: int
    output_tokens: int | None
    price: Price | None

    @property
    def cost(self) -> float | None:
        """At most, in the currency of the price; None without a price."""
        if self.price is None or self.output_tokens is None:
            return None
        return (self.input_tokens * self.price.input + self.output_tokens * self.price.output) / MILLION

    def __str__(self) -> str:
        there = f" ({self.known:,} replies are there already)" if self.known else ""
        text = f"{self.requests:,} requests{there}"
        if not self.requests:
            return text
        text += f", about {self.input_tokens:,} tokens of input"
        if self.output_tokens is not None:
            text += f", at most {self.output_tokens:,} of output"
        return text if self.cost is None else f"{text}: a cost of at most about {self.cost:.4g}"


def tokens_of(text: str) -> int:
    """About how many tokens a text has, and rather too many than too few."""
    others = sum(len(char.encode("utf-8", "surrogatepass")) for char in text if not char.isascii())
    plain = sum(map(str.isascii, text))
    return math.ceil(plain / ASCII + others / OTHERS)


class Usage:
    """What the endpoint says it took, counted up from all threads."""

    def __init__(self, price: Price | None):
        self.price = price
        self.replies = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self._lock = threading.Lock()

    def add(self, reply: Reply) -> None:
        """Counts one reply."""
        with self._lock:
            self.replies += 1
            self.input_tokens += reply.input_tokens or 0
            self.output_tokens += reply.output_tokens or 0

    def __str__(self) -> str:
        text = f"{self.replies:,} replies"
        if self.input_tokens or self.output_tokens:
            text += f", {self.input_tokens:,} tokens of input and {self.output_tokens:,} of output"
        elif self.replies:
            return f"{text}, of which the endpoint doesn't tell the tokens"
        if self.price is None:
            return text
        spent = self.input_tokens * self.price.input + self.output_tokens * self.price.output
        return f"{text}, a cost of {spent / MILLION:.4g}"


def in_words(counted: Mapping[str, int]) -> str:
    """What was counted: `rate limits: 3, timeouts: 1`."""
    return ", ".join(f"{what}: {number}" for what, number in Counter(counted).most_common())
