"""`arith win-rate`: how often the answers of one results file win against those of another."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arith.cli.failures import ends_well, say
from arith.cli.output import console, results_file
from arith.cli.points import point_of
from arith.cli.progress import RowProgress
from arith.cli.score_sweep import agree_to_pay
from arith.errors import OptionError, SpecError
from arith.results_file import Row, RowFormat, row_key

if TYPE_CHECKING:
    from arith.study.judging.verdict import Outcome
    from arith.study.judging.win_rate import Couple
    from arith.study.results import ResultRow

WIDTH = 120  # characters of a table that goes to a file or a pipe
POINT = "the point to take of {}, where it is a sweep; may be repeated"


@ends_well
def win_rate(
    first: Annotated[Path, typer.Argument(help="folder of a sweep, or results of `arith generate --out`")],
    second: Annotated[Path, typer.Argument(help="what its answers are compared with")],
    judge: Annotated[Path | None, typer.Option(help="YAML file of a judge")] = None,
    scores: Annotated[
        str | None, typer.Option(help="compare by these scores of both, made by `arith score-sweep`")
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help=POINT.format("the first"))
    ] = None,
    reference_point: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help=POINT.format("the second"))
    ] = None,
    length_controlled: Annotated[
        bool, typer.Option("--length-controlled", help="also tell the win rate at equal lengths")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON Lines file to write each judgement to")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="pay what judging costs")] = False,
) -> None:
    """Compare two results row by row: rows of one prompt and sample, by a judge or by scores that there are.

    Replies of the judge are kept as they come: interrupted, the same command asks for the others only.
    """
    from arith.study.judging.matching import at_point
    from arith.study.judging.win_rate import Matched, WinRate, by_scores
    from arith.study.results import read_results, results_path

    if (judge is None) == (scores is None):
        raise OptionError("the answers are compared by --judge FILE or by --scores NAME: give one")
    if scores is not None and out is not None:
        raise OptionError("--out is for what a judge says: give it with --judge")
    rows = at_point(read_results(first), point_of("--point", point), first)
    others = at_point(read_results(second), point_of("--reference-point", reference_point), second)
    matched = Matched.of(rows, others)
    for path, alone in zip((first, second), matched.alone, strict=True):
        say_alone(path, alone)
    lengths = [(len(one.text), len(other.text)) for one, other in matched.couples]
    if judge is not None:
        inputs = (judge, results_path(first), results_path(second))
        outcomes, lengths = judged(judge, matched.couples, out, inputs, overwrite=overwrite, yes=yes)
    else:
        assert scores is not None, "one of the two is given"
        outcomes = by_scores(*scores_of(scores, (first, second), matched.couples))
    found = WinRate.of(matched.couples, outcomes, lengths if length_controlled else None)
    console(WIDTH).print(found.table())


def say_alone(path: Path, alone: "Sequence[ResultRow]") -> None:
    """Tell the rows that have no counterpart."""
    from arith.study.judging.matching import listed_rows

    if alone:
        say(f"{path}: {len(alone)} rows have no counterpart and are left out:{listed_rows(alone)}")


def scores_of(
    name: str, paths: tuple[Path, Path], couples: "Sequence[Couple]"
) -> "tuple[Sequence[float], Sequence[float]]":
    """The scores of each side `[couples]`. Raises `SpecError` where two different scorers made them."""
    from arith.study.scores import read_scores

    first, second = (
        read_scores(path, name, [couple[side] for couple in couples]) for side, path in enumerate(paths)
    )
    if first.scorer != second.scorer:
        message = f"the scores `{name}` of {paths[0]} and of {paths[1]} were made by different settings"
        hint = f"make both by the same: `arith score-sweep {paths[1]} --with ... --overwrite`"
        raise SpecError(message, hint)
    return first.values, second.values


def judged(
    judge: Path,
    couples: "Sequence[Couple]",
    out: Path | None,
    inputs: "Sequence[Path]",
    *,
    overwrite: bool,
    yes: bool,
) -> "tuple[list[Outcome], list[tuple[int, int]]]":
    """The outcome of each couple, and the lengths of its answers in characters as they were judged."""
    from arith.study.judging.judge_file import read_judge
    from arith.study.judging.pairwise import Pair, PairwiseJudge
    from arith.study.scores import settings_digest

    if out is None and overwrite:
        raise OptionError("--overwrite is about a file: name it with --out")
    keys = read_judge(judge)
    pairwise = PairwiseJudge(keys, judge.parent)
    pairs = [Pair(one.prompt, one.text, other.text) for one, other in couples]
    run = settings_digest({**keys.model_dump(mode="json"), "template": pairwise.template})
    outcomes: dict[int, Outcome] = {}
    heads = [judgement_head(couple) for couple in couples]
    goes_on = out is not None and not overwrite
    opened = results_file(out, inputs, run, resume=goes_on, overwrite=overwrite, format=JUDGEMENTS)
    with opened or nullcontext() as file:
        if file is not None and not file.done <= set(map(judgement_key, heads)):
            hint = "--overwrite replaces them; or name another file"
            raise SpecError(f"{file.path}: holds judgements of other answers", hint)
        estimate = pairwise.estimate(pairs)
        say(f"{keys.model} at {pairwise.endpoint.url}: {estimate}")
        agree_to_pay(estimate.cost or 0.0, yes)
        with RowProgress(len(pairs), noun="pair") as progress:
            try:
                tokens = 0
                for index, judgement in pairwise.judge(pairs):
                    outcomes[index] = judgement.outcome
                    if file is not None and judgement_key(heads[index]) not in file.done:
                        file.append({**heads[index], **judgement.details()})
                    progress.advance(pairwise.usage.output_tokens - tokens)
                    tokens = pairwise.usage.output_tokens
            finally:
                say(pairwise.summary())
    lengths = [(len(pairwise.cut(pair.first)), len(pairwise.cut(pair.second))) for pair in pairs]
    return [outcomes[index] for index in range(len(pairs))], lengths


def judgement_head(couple: "Couple") -> dict[str, object]:
    """What is compared: the beginning of a judgement's row of JSON Lines."""
    row, other = couple
    return {
        "prompt_id": row.prompt_id,
        "prompt": row.prompt,
        **({"fields": dict(row.fields)} if row.fields else {}),
        "occurrence": row.occurrence,
        "sample": row.sample,
        "texts": [row.text, other.text],
    }


def judgement_key(row: Row) -> str:
    """What makes a judgement this one: what is compared."""
    return json.dumps([row_key(row), row.get("texts")])


JUDGEMENTS = RowFormat(
    noun="judgement",
    required="texts",
    key=judgement_key,
    other="the judgement comes from another judge",
    fix="--overwrite replaces them; or name another file",
)
