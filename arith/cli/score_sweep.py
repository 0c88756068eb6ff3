"""`arith score-sweep`: numbers for the texts of a sweep, kept beside them."""

import sys
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arith.cli.failures import ends_well, say
from arith.cli.output import console
from arith.cli.progress import RowProgress
from arith.errors import OptionError
from arith.runtime.options import check_max_rows

if TYPE_CHECKING:
    from arith.study.results import ResultRow
    from arith.study.scores import ScoresFile
    from arith.study.scoring.scorer import Scorer

WIDTH = 200  # characters of a table that goes to a file or a pipe


@ends_well
def score_sweep(
    results: Annotated[Path, typer.Argument(help="folder of a sweep, or results of `arith generate --out`")],
    scorers: Annotated[
        list[str],
        typer.Option(
            "--with", help="YAML file of scorers, or length, distinct_1, distinct_2, repetition; repeatable"
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="score all rows anew, where scores are of other settings, say")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="pay what scoring costs")] = False,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Score the texts of a sweep: each score is appended to scores/NAME.jsonl in the folder (for a
    file beside it: scores/FILE/NAME.jsonl) as it is made.

    Interrupted, or with new rows in the sweep, the same command scores only those that are missing. At the
    end the mean of each score at each point is shown, with its 95% interval over prompts.
    """
    from arith.study.results import read_results
    from arith.study.scores import ScoresFile, read_scores
    from arith.study.scoring.scorers import Task, asked_for, scorer_of
    from arith.study.summary import summaries, table_of

    check_max_rows(max_rows)
    asked = asked_for(scorers)
    rows = read_results(results)
    task = Task(results, rows, device, max_rows)
    made = {name: scorer_of(name, one, task) for name, one in asked.items()}
    with ExitStack() as stack:
        runs = []
        for name, scorer in made.items():
            file = ScoresFile(results, name, scorer.settings, overwrite=overwrite)
            runs.append(Run(name, scorer, stack.enter_context(file), rows))
        for run in runs:
            run.check()
        prices = {key: price for run in runs for key, price in run.prices.items()}
        agree_to_pay(sum(prices.values()), yes)
        for run in runs:
            run.go()
    scores = {name: read_scores(results, name, rows).values for name in made}
    console(WIDTH).print(table_of(summaries(rows, scores)))


class Run:
    """One scorer and the rows that it has yet to score."""

    def __init__(self, name: str, scorer: "Scorer", file: "ScoresFile", rows: "Sequence[ResultRow]"):
        self._name = name
        self._scorer = scorer
        self._file = file
        self._total = len(rows)
        self._missing = file.missing(rows, scorer.reference)

    @property
    def prices(self) -> Mapping[Hashable, float]:
        """What the missing scores cost, by what is paid."""
        return self._scorer.prices(self._missing)

    def check(self) -> None:
        """Say what scoring will take. Raises what the scorer refuses beforehand."""
        if not self._missing:
            say(f"{self._name}: nothing to do: all rows are in {self._file.path} already")
        elif note := self._scorer.check(self._missing):
            say(f"{self._name}: {note}")

    def go(self) -> None:
        """Score what is missing, and keep each score as it comes."""
        if not self._missing:
            return
        done = self._total - len(self._missing)
        with RowProgress(self._total, done=done, noun="text") as progress:
            try:
                for place, scored in self._scorer.score(self._missing):
                    self._file.add(self._missing[place], scored)
                    progress.advance(self._missing[place].tokens)
            finally:
                say(f"{self._name}: {progress.summary()}, in {self._file.path}")
                if summary := self._scorer.summary():
                    say(f"{self._name}: {summary}")


def agree_to_pay(price: float, yes: bool) -> None:
    """Raises `OptionError` where there is a price, and neither `--yes` nor a yes at the terminal."""
    if price <= 0 or yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise OptionError(f"scoring costs up to {price:.4g}", "--yes agrees to it")
    if not typer.confirm(f"scoring costs up to {price:.4g}: go on?", err=True):
        raise OptionError("nothing was scored, and nothing paid")
