"""`arith alpaca-outputs`: answers as AlpacaEval reads them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from arith.cli.failures import ends_well, say
from arith.cli.output import refuse_input
from arith.cli.points import point_of
from arith.errors import SpecError
from arith.results_file import check_writable
from arith.whole_file import write_output


@ends_well
def alpaca_outputs(
    results: Annotated[Path, typer.Argument(help="folder of a sweep, or results of `arith generate --out`")],
    out: Annotated[Path, typer.Option(help="JSON file to write, for `alpaca_eval --model_outputs`")],
    generator: Annotated[str, typer.Option(help="name of what wrote the answers, as AlpacaEval shows it")],
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="the point of a sweep to take; may be repeated"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
) -> None:
    """Write the answers of one point as AlpacaEval's model_outputs.json: the first sample of each prompt."""
    from arith.study.alpaca_eval import model_outputs
    from arith.study.judging.matching import at_point
    from arith.study.results import read_results, results_path

    everything = read_results(results)
    rows = at_point(everything, point_of("--point", point), results)
    refuse_input(out, (results_path(results),))
    check_writable(out)
    if out.exists() and not overwrite:
        raise SpecError(f"{out}: the file exists already", "--overwrite replaces it")
    outputs = model_outputs(rows, generator)
    write_output(out, json.dumps(outputs, ensure_ascii=False, indent=2) + "\n")
    left_out = len(rows) - len(outputs)
    also = f"; {left_out} further answers to the same instructions are left out" if left_out else ""
    say(f"{len(outputs)} answers in {out}{also}")
    if lacking := len({row.prompt_key for row in everything}) - len(outputs):
        say(f"{lacking} prompts of {results} have no answer at this point: the sweep isn't complete")
    if later := len(outputs) - sum(row.sample == row.occurrence == 0 for row in rows):
        say(f"{later} answers are later samples: the first ones aren't there")
