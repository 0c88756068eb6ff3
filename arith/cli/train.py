"""`arith train`: an operand from preference data."""

from pathlib import Path
from typing import Annotated

import typer

from arith.cli.failures import ends_well, put, say


@ends_well
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file: objective, operand, data, training, output")],
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="value over the recipe's, such as training.seed=1"),
    ] = None,
) -> None:
    """Train an operand. A run that was cut off goes on from its last checkpoint by the same command.

    How it goes is said on standard error; at the end standard output has the figures, and the lines of YAML
    by which a formula uses what was trained.
    """
    from trainers.output.folder import way_on
    from trainers.recipe import Recipe
    from trainers.run import train as run

    loaded = Recipe.load(recipe, set or ())
    try:
        trained = run(loaded, say)
    except KeyboardInterrupt:
        say(way_on(loaded.output))
        raise
    if trained.first:
        put(f"{trained.table}\n\n{trained.operand}")
