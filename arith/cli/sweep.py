"""`arith sweep`: text from a formula at every point of its parameters, all in one run."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.cli.failures import ends_well, say
from arith.cli.flags import (
    COMPILE,
    DRAFT_TOKENS,
    MODEL,
    PARAM,
    PARAMS,
    SPECULATE,
    given_params,
    sampling_flags,
    sampling_of,
    with_models,
    with_speed,
)
from arith.cli.loading import load
from arith.cli.progress import RowProgress, say_how_it_went
from arith.cli.rows import run_of
from arith.errors import OptionError
from arith.prompts_file import PromptLine, read_prompts
from arith.results_file import ResultsFile
from arith.runtime.options import Sampling
from arith.spec import Spec
from grammar.parse import parse
from grammar.printer import to_text

if TYPE_CHECKING:
    from arith.runtime.sweeping.points import Point

MOST_ROWS = 10_000_000


@ends_well
@sampling_flags
def sweep(
    spec: Annotated[Path, typer.Argument(help="YAML file with a formula, its operands, and a sweep")],
    prompts: Annotated[
        Path, typer.Option(help="file of prompts: .jsonl (objects with `prompt`) or .txt (one a line)")
    ],
    out: Annotated[Path, typer.Option(help="folder of the results; the same command goes on with them")],
    samples: Annotated[int | None, typer.Option(help="samples of each prompt at each point")] = None,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    speculate: Annotated[str | None, SPECULATE] = None,
    draft_tokens: Annotated[str | None, DRAFT_TOKENS] = None,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    compile: Annotated[str | None, COMPILE] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="spread the rows over the Ray cluster at HOST:PORT, or auto"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="engines with --ray; without it one a GPU, else one a machine")
    ] = None,
    **sampling: Any,
) -> None:
    """Write text at every point of a sweep: each point, prompt and sample is a row of one run.

    Finished rows are appended to results.jsonl in the folder. Interrupted, the same command runs only those
    that are missing.
    """
    from arith.study.sweep_folder import SweepFolder

    if workers is not None and ray is None:
        raise OptionError("--workers is about a cluster", "name it with --ray")
    if samples is not None:
        sampling["num_return_sequences"] = samples
    document = with_speed(with_models(Spec.load(spec), model), compile, speculate, draft_tokens)
    options = sampling_of(document, sampling)
    document = settled(document, options, param, params_file)
    points = document.swept()[1]
    lines = read_prompts(prompts)
    total = total_rows(len(lines), len(points), options.num_return_sequences)
    folder = SweepFolder(out, document, digest_of(document))
    with folder.results as file:
        for note in folder.notes:
            say(note)
        heads = folder.heads(lines)
        if others := folder.others(heads):
            say(f"{out}: {others} rows are of prompts that {prompts} doesn't hold: scores count them too")
        missing = folder.missing(heads, points, options.num_return_sequences)
        if not missing:
            say(f"nothing to do: all rows are in {file.path} already")
            return
        progress = RowProgress(total, done=total - len(missing))
        run = Run(document, lines, heads, options, missing, max_rows, device)
        if ray is None:
            run_here(run, points, file, progress)
        else:
            write_all(run_on_cluster(run, ray, workers), file, progress)


def total_rows(prompts: int, points: int, samples: int) -> int:
    """How many rows there are. Raises `OptionError` for more than memory holds, as of a slip of the pen."""
    if (rows := prompts * points * samples) > MOST_ROWS:
        parts = f"{prompts:,} prompts, {points:,} points and {samples:,} samples"
        raise OptionError(f"{parts} make {rows:,} rows, and one sweep has at most {MOST_ROWS:,}")
    return rows


@dataclass(frozen=True)
class Run:
    """What is to be run: the rows `missing` (index of the prompt, index of the point, sample), and how."""

    document: Spec
    lines: Sequence[PromptLine]
    heads: Sequence[Mapping[str, object]]
    options: Sampling
    missing: Collection[tuple[int, int, int]]
    max_rows: int | None
    device: str | None


def run_here(run: Run, points: Sequence["Point"], file: ResultsFile, progress: RowProgress) -> None:
    """Runs the rows with one engine."""
    from arith.study.sweep_folder import sweep_row

    engine = load(joint(run.document), run.lines, max_rows=run.max_rows, device=run.device)
    engine.points = points
    results = engine.sweep(
        [line.whole for line in run.lines],
        places=[line.place for line in run.lines],
        wanted=run.missing,
        **run.options.model_dump(),
    )
    write_all((sweep_row(result, run.heads[result.index]) for result in results), file, progress)
    say_how_it_went(engine)


def run_on_cluster(run: Run, address: str, workers: int | None) -> Iterator[dict[str, object]]:
    """The rows as they come from the workers of a cluster."""
    from arith.study.cluster import SweepJob, cluster_rows

    job = SweepJob(
        run.document.dump(), run.lines, run.heads, run.options.num_return_sequences, run.max_rows, run.device
    )
    return cluster_rows(address, job, run.missing, workers=workers, note=say)


def write_all(rows: Iterable[dict[str, Any]], file: ResultsFile, progress: RowProgress) -> None:
    """Appends each row to the file when it comes."""
    with progress:
        try:
            for row in rows:
                file.append(row)
                progress.advance(len(row["token_ids"]))
        finally:
            if progress.rows:
                say(f"{progress.summary()}, in {file.path}")


def settled(
    document: Spec, options: Sampling, assignments: Sequence[str] | None, params_file: Path | None
) -> Spec:
    """The specification with what the command line says; the number of samples is no part of it, so that more
    can be had later. Raises `OptionError` where nothing is swept, and for a value that is not asked for."""
    from arith.runtime.sweeping.points import names_beside, refuse_unknown

    if document.sweep is None:
        raise OptionError(
            f"{document.source}: there is no `sweep`", "give it one, such as `sweep: {alpha: [0, 0.5, 1]}`"
        )
    formula = document.joint_formula
    known = (*names_beside(document.sweep, formula), *document.sweep.names)
    given = given_params(known, assignments, params_file)
    refuse_unknown(given, document.sweep, formula)
    one = options.model_copy(update={"num_return_sequences": 1})
    spaced = replace(document, sampling=one, params={**document.params, **given}, text=evenly(document.text))
    if document.sweep.formula is None:
        return spaced
    formulas = {name: evenly(text) for name, text in document.sweep.formula.items()}
    return replace(spaced, sweep=document.sweep.model_copy(update={"formula": formulas}))


def evenly(formula: str) -> str:
    """The formula with its white space as it is printed: other white space makes no other sweep."""
    return to_text(parse(formula))


def digest_of(document: Spec) -> str:
    """Rows of one folder agree in it."""
    sweep = None if document.sweep is None else document.sweep.model_dump(mode="json")
    options = {"sampling": document.sampling.model_dump(), "params": dict(document.params), "sweep": sweep}
    return run_of(document, options)


def joint(document: Spec) -> Spec:
    """The specification of the formula which holds all that are swept."""
    formula = document.joint_formula
    bound = {name: value for name, value in formula.bindings.items() if isinstance(value, float)}
    return replace(document, text=str(formula), params={**document.params, **bound}, sweep=None)
