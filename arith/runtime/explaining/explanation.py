"""What an explanation holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arith.runtime.explaining.token_text import TokenKind, TokenText


@dataclass(frozen=True)
class Candidate:
    """A token that could stand at one place of the text; log-probabilities are natural, at temperature 1 and
    before any option of sampling.

    text, kind: the token by itself, see `TokenText`.
    log_prob: under the formula.
    log_probs: under each operand that ran, -inf outside its support.
    contributions: what each term of the formula adds to the token's log-weight, in nats: weight times
        log-probability. Their sum is `log_prob` plus the place's `log_normalizer`. Empty where the formula is
        no sum.
    """

    token_id: int
    text: str
    kind: TokenKind
    log_prob: float
    log_probs: Mapping[str, float]
    contributions: Mapping[str, float]

    def as_data(self) -> dict[str, Any]:
        """The candidate as JSON takes it: None is -inf."""
        return {
            "token_id": self.token_id,
            "text": self.text,
            "kind": self.kind,
            "log_prob": _number(self.log_prob),
            "log_probs": _numbers(self.log_probs),
            "contributions": _numbers(self.contributions),
        }


@dataclass(frozen=True)
class ExplainedToken:
    """One token of the text.

    shown: the token in its place: the last token of a character that several make up has the character.
    chosen: the token itself, and `base_choice` the one that the base gives the highest probability here.
    rank: its place in the order of the formula's probabilities, from 1.
    kl: KL(formula‖base) of the distributions it was taken from, in nats; inf where the base gives a token of
        the formula the probability 0.
    entropy: of the formula's distribution, in nats.
    weights: of each term of the formula, here.
    log_normalizer: the logarithm of the sum over all tokens of exp(their contributions), in nats; None where
        the formula is no sum.
    alternatives: the most likely tokens under the formula, the likeliest first.
    """

    shown: TokenText
    chosen: Candidate
    base_choice: Candidate
    rank: int
    kl: float
    entropy: float
    weights: Mapping[str, float]
    log_normalizer: float | None
    alternatives: tuple[Candidate, ...]

    @property
    def differs(self) -> bool:
        """Whether the base alone would have chosen another token, taking the likeliest."""
        return self.base_choice.token_id != self.chosen.token_id

    def as_data(self) -> dict[str, Any]:
        """The token as JSON takes it: None is infinite."""
        return {
            "shown": {"text": self.shown.text, "kind": self.shown.kind},
            "chosen": self.chosen.as_data(),
            "base_choice": self.base_choice.as_data(),
            "rank": self.rank,
            "kl": _number(self.kl),
            "entropy": self.entropy,
            "weights": dict(self.weights),
            "log_normalizer": self.log_normalizer,
            "alternatives": [one.as_data() for one in self.alternatives],
        }


@dataclass(frozen=True)
class Explanation:
    """A text token by token, under a formula.

    formula, params: what explains it, with the values of its parameters.
    prompt, text: the prompt as it was given, and the text of the tokens without special ones.
    base: the operand that the formula is compared with.
    operands: what each operand stands for, as its keys in a specification.
    not_run: the operands that have weight 0 and did not run. The base runs always.
    terms: the names of the formula's terms and, for those that are an operand, the operand. Empty where the
        formula is no sum, as `max(a, b)` isn't: then no contributions can be told.
    tokens: in order, an end-of-sequence token included.
    """

    formula: str
    params: Mapping[str, float]
    prompt: object
    text: str
    base: str
    operands: Mapping[str, Mapping[str, str]]
    not_run: tuple[str, ...]
    terms: Mapping[str, str | None]
    tokens: tuple[ExplainedToken, ...]

    @property
    def log_prob(self) -> float:
        """The log-likelihood of the text under the formula, in nats."""
        return sum(token.chosen.log_prob for token in self.tokens)

    @property
    def mean_kl(self) -> float:
        """KL(formula‖base) a token, in nats."""
        return sum(token.kl for token in self.tokens) / len(self.tokens)

    def as_data(self) -> dict[str, Any]:
        """The explanation as JSON takes it: None stands for numbers that are infinite."""
        return {
            "formula": self.formula,
            "params": dict(self.params),
            "prompt": self.prompt,
            "text": self.text,
            "base": self.base,
            "operands": {name: dict(keys) for name, keys in self.operands.items()},
            "not_run": list(self.not_run),
            "terms": dict(self.terms),
            "tokens": [token.as_data() for token in self.tokens],
        }


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}
