"""`arith sweep`: text from a formula at every point of its parameters, all in one run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.cli.failures import ends_well, say
from arith.cli.flags import COMPILE, PARAM, PARAMS, given_params, sampling_flags, sampling_of, with_compile
from arith.cli.loading import load
from arith.cli.progress import RowProgress, say_how_it_went
from arith.cli.rows import run_of
from arith.errors import OptionError
from arith.prompts_file import read_prompts
from arith.runtime.options import Sampling
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.language import Formula


@ends_well
@sampling_flags
def sweep(
    spec: Annotated[Path, typer.Argument(help="YAML file with a formula, its operands, and a sweep")],
    prompts: Annotated[
        Path, typer.Option(help="file of prompts: .jsonl (objects with `prompt`) or .txt (one a line)")
    ],
    out: Annotated[Path, typer.Option(help="folder of the results; the same command goes on with them")],
    samples: Annotated[int | None, typer.Option(help="samples of each prompt at each point")] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    compile: Annotated[str | None, COMPILE] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
    **sampling: Any,
) -> None:
    """Write text at every point of a sweep: each point, prompt and sample is a row of one run.

    Finished rows are appended to results.jsonl in the folder. Interrupted, the same command runs only those
    that are missing.
    """
    from arith.study.sweep_folder import SweepFolder, sweep_heads, sweep_row

    if samples is not None:
        sampling["num_return_sequences"] = samples
    document = with_compile(Spec.load(spec), compile)
    options = sampling_of(document, sampling)
    document = settled(document, options, given_params(document, param, params_file))
    formula, points = document.swept()
    lines = read_prompts(prompts)
    made = sweep_heads(lines)
    folder = SweepFolder(out, document, run_of(document, document.sampling.model_dump()))
    with folder.results as file:
        for note in folder.notes:
            say(note)
        missing = folder.missing(made, points, options.num_return_sequences)
        if not missing:
            say(f"nothing to do: all rows are in {file.path} already")
            return
        engine = load(joint(document, formula), lines, max_rows=max_rows, device=device)
        engine.points = points
        total = len(lines) * len(points) * options.num_return_sequences
        results = engine.sweep(
            [line.whole for line in lines],
            places=[line.place for line in lines],
            wanted=missing,
            **options.model_dump(),
        )
        with RowProgress(total, done=total - len(missing)) as progress:
            try:
                for result in results:
                    file.append(sweep_row(result, made[result.index]))
                    progress.advance(len(result.token_ids))
            finally:
                say(f"{progress.summary()}, in {file.path}")
        say_how_it_went(engine)


def settled(document: Spec, options: Sampling, given: Mapping[str, float]) -> Spec:
    """The specification with what the command line says; the number of samples is no part of it, so that more
    can be had later. Raises `OptionError` for a value of what is swept, and where nothing is."""
    if document.sweep is None:
        raise OptionError(
            f"{document.source}: there is no `sweep`", "give it one, such as `sweep: {alpha: [0, 0.5, 1]}`"
        )
    for name in given:
        if name in document.sweep.names:
            raise OptionError(f"`{name}` is swept: its value can't be given")
    one = options.model_copy(update={"num_return_sequences": 1})
    return replace(document, sampling=one, params={**document.params, **given})


def joint(document: Spec, formula: "Formula") -> Spec:
    """The specification of the formula which holds all that are swept."""
    bound = {name: value for name, value in formula.bindings.items() if isinstance(value, float)}
    return replace(document, text=str(formula), params={**document.params, **bound}, sweep=None)
