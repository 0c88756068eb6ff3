"""What the engine gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FORMULA = "formula"
"""The key of the formula's own log-probabilities, beside those of its operands."""

FinishReason = Literal["stop", "stop_string", "length", "forbidden"]


@dataclass(frozen=True)
class Result:
    """One finished row.

    index, sample: the prompt's place in the call, and which of its `num_return_sequences` this is.
    token_ids: the generated tokens, without the prompt, an end-of-sequence token included.
    text: their text without special tokens (a stop string included).
    finish_reason: `stop` (an end-of-sequence id or a stopping criterion), `stop_string`, `length`, or
        `forbidden` (no way on that guards allow was found).
    logprobs: for `formula` and each operand by its name one natural log-probability a token, at temperature 1
        and before any warper; an operand that did not run, its weight being 0, has NaN.
    timings: seconds `queued`, `prefill` and `decode`.
    """

    index: int
    sample: int
    prompt: object
    seed: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: dict[str, list[float]]
    timings: Mapping[str, float] = field(repr=False)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of this row for each second from its prefill to its end."""
        return len(self.token_ids) / max(self.timings["prefill"] + self.timings["decode"], 1e-9)


@dataclass(frozen=True)
class Piece:
    """Text of one row as it comes. The last piece of a row holds its `result`."""

    index: int
    sample: int
    text: str
    token_ids: list[int]
    result: Result | None = None


@dataclass(frozen=True)
class Score:
    """The log-likelihood of one completion, in nats: token by token in `logprobs`, for `formula` and each
    operand."""

    token_ids: list[int]
    logprobs: dict[str, list[float]]

    @property
    def totals(self) -> dict[str, float]:
        """The sums over the tokens, for `formula` and each operand."""
        return {name: sum(values) for name, values in self.logprobs.items()}

    @property
    def total(self) -> float:
        """The log-likelihood under the formula."""
        return self.totals[FORMULA]
