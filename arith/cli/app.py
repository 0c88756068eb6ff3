"""The commands of the program `arith`."""

import json

import typer

from arith.cli.alpaca_outputs import alpaca_outputs
from arith.cli.bench import bench
from arith.cli.check import check
from arith.cli.explain import explain
from arith.cli.failures import ends_well, put
from arith.cli.fit import fit
from arith.cli.generate import generate
from arith.cli.operators import operators
from arith.cli.pairs import pairs
from arith.cli.plot import plot
from arith.cli.score import score
from arith.cli.score_sweep import score_sweep
from arith.cli.soup import soup
from arith.cli.sweep import sweep
from arith.cli.train import train
from arith.cli.win_rate import win_rate

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
app.command()(explain)
app.command()(sweep)
app.command()(score_sweep)
app.command()(plot)
app.command()(win_rate)
app.command()(alpaca_outputs)
app.command()(train)
app.command()(soup)
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
