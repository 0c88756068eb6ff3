"""`arith check`: what a specification means and what it will take, before any weights are loaded."""

from pathlib import Path
from typing import Annotated

import typer

from arith.cli.failures import ends_well
from arith.cli.loading import plan_of
from arith.spec import Spec


@ends_well
def check(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Check a specification: show its formula, its graph, the lanes of each forward, and the memory it takes.

    Loads no weights and downloads nothing: of a model that isn't on this machine the memory isn't known.
    """
    document = Spec.load(spec)
    formula = document.formula()
    print(formula, formula.program, plan_of(document, device), sep="\n\n")
    values = {name: formula.bindings.get(name) for name in formula.parameters}
    for name, value in values.items():
        print(f"parameter {name}: {'to be given' if value is None else value}")
    for name in document.unused:
        print(f"not used by the formula: {name}")
