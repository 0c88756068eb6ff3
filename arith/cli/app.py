"""The commands of the program `arith`."""

import json

import typer

from arith.cli.bench import bench
from arith.cli.check import check
from arith.cli.failures import ends_well, put
from arith.cli.fit import fit
from arith.cli.generate import generate
from arith.cli.operators import operators
from arith.cli.pairs import pairs
from arith.cli.score import score
from arith.cli.sweep import sweep
from arith.cli.train import train

app = typer.Typer(
    name="arith",
    help="Decoding-time methods as formulas over next-token distributions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(generate)
app.command()(check)
app.command()(score)
app.command()(sweep)
app.command()(train)
app.command()(bench)
app.command()(pairs)
app.command()(fit)
app.command()(operators)


@app.command()
@ends_well
def schema() -> None:
    """Print the JSON Schema of specifications, for editors that check YAML."""
    from arith.spec_file import json_schema

    put(json.dumps(json_schema(), indent=2))
