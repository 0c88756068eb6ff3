"""What a judge's replies come to: ratings, and which side wins."""

import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["win", "tie", "lose", "undetermined"]
LOWEST, HIGHEST = 1.0, 10.0

_NUMBER = r"(\d++(?:\.\d++)?+)(?:\s*+/\s*+10(?!\d))?+"
_FURTHER = r"((?:(?:\s*+[-–—/]\s*+|[,.])\d[\d.,]*+)?+)"  # by which it is no rating: `3-4`, `1,5`, `4/5`
_RATING = rf"\s*[=:]\s*{_NUMBER}{_FURTHER}"
_NAMED = re.compile(
    rf"(?<!\w)A{_RATING}(?:\s*\([^()\n]*\))?[\s,;|]*(?:and\s+)?(?:\w+\s+)?B{_RATING}", re.IGNORECASE
)
_ALONE = re.compile(rf"{_NUMBER}(?:\s*[,;]\s*|\s+){_NUMBER}")


@dataclass(frozen=True)
class Ratings:
    """What the two answers of one reply are worth, from 1 to 10."""

    first: float
    second: float

    @property
    def swapped(self) -> "Ratings":
        """The same seen from the other side."""
        return Ratings(self.second, self.first)


@dataclass(frozen=True)
class Judgement:
    """What a judge says of two answers.

    ratings: for each order that was asked, always with the first side first; None where the reply has none.
    replies: the judge's words; None where it declined.
    """

    ratings: tuple[Ratings | None, ...]
    replies: tuple[str | None, ...]

    @property
    def mean(self) -> Ratings | None:
        """The mean over the orders; None where one of them lacks ratings, for the place of an answer would
        count then."""
        whole = [one for one in self.ratings if one is not None]
        if len(whole) < len(self.ratings):
            return None
        return Ratings(
            sum(one.first for one in whole) / len(whole), sum(one.second for one in whole) / len(whole)
        )

    @property
    def outcome(self) -> Outcome:
        """For the first side."""
        mean = self.mean
        if mean is None:
            return "undetermined"
        if mean.first == mean.second:
            return "tie"
        return "win" if mean.first > mean.second else "lose"

    def details(self) -> dict[str, object]:
        """What is kept of it, as JSON."""
        pairs = [None if one is None else [one.first, one.second] for one in self.ratings]
        return {"outcome": self.outcome, "ratings": pairs, "replies": list(self.replies)}


def ratings_in(reply: str) -> Ratings | None:
    """The ratings of answers A and B: of the last `A=7, B=4` in the reply, or else of its first line that
    holds two numbers alone. None where there is neither, one of them is no single number (`B=3-4`), or isn't
    between 1 and 10."""
    plain = reply.replace("*", "").replace("`", "")
    named = list(_NAMED.finditer(plain))
    alone = None if named else _line_of_numbers(plain)
    if named:
        one, beyond, other, beyond_other = named[-1].groups()
        if beyond or beyond_other:
            return None
    elif alone is not None:
        one, other = alone.groups()
    else:
        return None
    first, second = float(one), float(other)
    within = all(LOWEST <= one <= HIGHEST for one in (first, second))
    return Ratings(first, second) if within else None


def _line_of_numbers(text: str) -> re.Match[str] | None:
    lines = (_ALONE.fullmatch(line.strip()) for line in text.splitlines())
    return next((line for line in lines if line is not None), None)
