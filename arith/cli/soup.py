"""`arith soup`: LoRA adapters interpolated in weight space."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from arith.cli.failures import ends_well, put, say
from arith.cli.flags import number_in
from arith.errors import OptionError


@ends_well
def soup(
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER=WEIGHT", help="peft folder or hub id of a LoRA adapter")
    ],
    out: Annotated[Path, typer.Option(help="folder to write the new adapter to")],
) -> None:
    """Write a rewarded soup: the adapter whose weight difference is the weighted sum of the others'.

    All of them belong to one base model, whose weights aren't read.
    """
    weights = weights_of(adapters)
    from arith.operands.soup import write_soup

    for note in write_soup(weights, out):
        say(note)
    put(f"{out}: {' + '.join(f'{weight:g}*{name}' for name, weight in weights.items())}")


def weights_of(assignments: Sequence[str]) -> dict[str, float]:
    """The weight of each adapter. Raises `OptionError` for what isn't `adapter=weight`, or is there twice."""
    weights: dict[str, float] = {}
    for assignment in assignments:
        adapter, equals, number = assignment.rpartition("=")
        if not equals or not adapter:
            raise OptionError(f"{assignment}: must be ADAPTER=WEIGHT", "trained/helpful=0.5, say")
        if adapter in weights:
            raise OptionError(f"{assignment}: {adapter} is given twice")
        weights[adapter] = number_in(assignment, number)
    return weights
