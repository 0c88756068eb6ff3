"""The judge as a scorer: each row against its reference."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arith.errors import SpecError
from arith.study.judging.keys import JudgeKeys
from arith.study.judging.matching import Match, at_point, by_match, listed_rows, match_of
from arith.study.judging.pairwise import Pair, PairwiseJudge
from arith.study.judging.verdict import Judgement, Outcome
from arith.study.results import ResultRow, read_results
from arith.study.scoring.scorer import Scored, Scorer

WINS: Mapping[Outcome, float | None] = {"win": 1.0, "tie": 0.5, "lose": 0.0, "undetermined": None}
INNOCUOUS = {"key_env", "timeout", "retries", "concurrency", "price", "max_cost", "cache", "prompt", "kind"}
"""Keys that don't change what a row's score is; of a question in a file its text counts."""


class Judge(Scorer):
    """Rates each row against the row of its prompt and sample in `reference`, or at `reference_point`.

    folder: relative paths of the keys are seen from it. rows: of the whole sweep.

    A row that is its own reference has the score 0.5 where scores are wins. One about which the judge says
    nothing in one of the orders has none. Raises what `PairwiseJudge` raises, and `SpecError` without a
    reference, and for one that can't be read or isn't of one point.
    """

    def __init__(self, keys: JudgeKeys, folder: Path, rows: Sequence[ResultRow]):
        self.keys = keys
        self.pairwise = PairwiseJudge(keys, folder)
        self._references = references(keys, folder, rows)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the numbers, as JSON can write it."""
        kept = self.keys.model_dump(mode="json", exclude=INNOCUOUS)
        return {**kept, "template": self.pairwise.template}

    def check(self, rows: Sequence[ResultRow]) -> str:
        """The requests that these rows take, and their cost.

        Raises `SpecError` for rows without a reference, and `OptionError` for what could cost too much.
        """
        lacking = [row for row in rows if match_of(row) not in self._references]
        if lacking:
            message = f"{len(lacking)} of {len(rows)} rows have no reference:{listed_rows(lacking)}"
            raise SpecError(message, "a reference has the same prompt, fields, occurrence and sample")
        estimate = self.pairwise.estimate(self._pairs(rows))
        return f"{self.keys.model} at {self.pairwise.endpoint.url}: {estimate}"

    def reference(self, row: ResultRow) -> str | None:
        """The key of the row that this one is compared with: where its text changes it is another one."""
        there = self._references.get(match_of(row))
        return None if there is None else there.key

    def prices(self, rows: Sequence[ResultRow]) -> Mapping[Hashable, float]:
        """What each request about these rows costs at most, in the currency of `price`; none without it."""
        return self.pairwise.prices(self._pairs(rows))

    def score(self, rows: Sequence[ResultRow]) -> Iterator[tuple[int, Scored]]:
        """The place in `rows` and the score of each, in any order, as they are done."""
        asked = []
        for place, row in enumerate(rows):
            if self._is_itself(row):
                yield place, Scored(0.5, {"outcome": "tie"}, row.key)
            else:
                asked.append(place)
        for index, judgement in self.pairwise.judge([self._pair(rows[place]) for place in asked]):
            place = asked[index]
            reference = self.reference(rows[place])
            yield place, Scored(self._value(judgement), judgement.details(), reference)

    def summary(self) -> str:
        """What was asked, what went wrong on the way, and how it came out."""
        return self.pairwise.summary()

    def _pairs(self, rows: Sequence[ResultRow]) -> list[Pair]:
        return [self._pair(row) for row in rows if not self._is_itself(row)]

    def _value(self, judgement: Judgement) -> float | None:
        if self.keys.value == "win":
            return WINS[judgement.outcome]
        return None if judgement.mean is None else judgement.mean.first

    def _is_itself(self, row: ResultRow) -> bool:
        return self.keys.value == "win" and self._references[match_of(row)].key == row.key

    def _pair(self, row: ResultRow) -> Pair:
        return Pair(row.prompt, row.text, self._references[match_of(row)].text)


def references(keys: JudgeKeys, folder: Path, rows: Sequence[ResultRow]) -> Mapping[Match, ResultRow]:
    """The rows to compare with. Raises `SpecError` for those that can't be read, or aren't of one point."""
    if keys.reference is not None:
        path = folder / Path(keys.reference).expanduser()
        return by_match(at_point(read_results(path), None, path))
    if keys.reference_point is None:
        raise SpecError(
            "a judge of rows needs a `reference` to compare them with, or a `reference_point`",
            "reference: base.jsonl, say, or reference_point: {h: 0}",
        )
    return by_match(at_point(rows, keys.reference_point, "reference_point"))
