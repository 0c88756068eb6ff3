"""`arith fit`: the parameters of a formula, fitted to data by gradient."""

from pathlib import Path
from typing import Annotated

import typer

from arith.cli.failures import ends_well, put, say
from arith.cli.flags import MODEL, PARAM, PARAMS, params_of, with_models
from arith.cli.loading import load
from arith.cli.output import refuse_input
from arith.errors import SpecError
from arith.results_file import check_writable
from arith.spec import Spec


@ends_well
def fit(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    data: Annotated[
        Path,
        typer.Option(help=".jsonl file: `prompt` with `completion`, or with `chosen` and `rejected`, a line"),
    ],
    out: Annotated[Path, typer.Option(help="YAML file to write the values to, for --params")],
    name: Annotated[
        list[str] | None,
        typer.Option("--fit", metavar="NAME", help="parameter to fit; may be repeated [default: all]"),
    ] = None,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="likelihood or preference; told from the columns of the data when left out"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Fit the parameters of a formula: to the likelihood of completions, or to preferences between answers.

    The search starts at the values of the specification, --params and --param; parameters that aren't fitted
    keep these.
    """
    from trainers.fitting import fit as fitted
    from trainers.fitting.data import read_data
    from trainers.fitting.fit import chosen_names

    document = with_models(Spec.load(spec), model)
    params = params_of(document, param, params_file)
    names = chosen_names(document.formula().program.parameters, name)
    refuse_input(out, (spec, data))
    check_writable(out)
    if out.exists() and not overwrite:
        raise SpecError(f"{out}: the file exists already", "--overwrite replaces it")
    texts = read_data(data, objective)
    engine = load(document, texts.lines, max_rows=max_rows, device=device, end=True, writes=False)
    found = fitted(engine, texts, names=names, params=params, report=say)
    found.save(out)
    put(found)
