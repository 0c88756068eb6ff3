"""`arith operators`: what can be called in a formula."""

from typing import Annotated

import typer

from arith.cli.failures import ends_well, put
from arith.errors import OptionError
from grammar.errors import nearest


@ends_well
def operators(
    name: Annotated[str | None, typer.Argument(help="one operator, to see all about it")] = None,
) -> None:
    """List the operators, or tell all about one: types, meaning, source and an example."""
    from arith.language.operators import REGISTRY

    if name is None:
        width = max(map(len, REGISTRY))
        for one, operator in sorted(REGISTRY.items()):
            meaning = operator.summary if one == operator.name else f"the same as `{operator.name}`"
            put(f"{one:<{width}}  {meaning}")
        return
    if name not in REGISTRY:
        close = nearest(name, REGISTRY)
        hint = f"did you mean `{close}`?" if close else "`arith operators` lists them"
        raise OptionError(f"there is no operator `{name}`", hint)
    operator = REGISTRY[name]
    put(f"{operator.signature}\n\n{operator.doc}\n")
    facts = {
        "also called": ", ".join(operator.aliases),
        "example": operator.example,
        "source": operator.source,
    }
    for label, fact in facts.items():
        if fact:
            put(f"{label}: {fact}")
