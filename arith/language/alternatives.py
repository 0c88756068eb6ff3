"""Several formulas in one: parameters of 0 and 1 pick which of them a row is of.

So one engine runs them in the same batches on shared models; what has weight 0 in a row doesn't run for it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from arith.language.formula import Formula
from grammar.errors import FormulaError
from grammar.tree import Expression, Name


def picks(name: str) -> str:
    """The parameter that is 1 in rows of the formula of this name, and 0 in others."""
    return f"is_{name}"


def picked(names: Iterable[str], name: str) -> dict[str, float]:
    """The values of all these parameters in a row of one formula."""
    return {picks(other): float(other == name) for other in names}


def alternatives(formulas: Mapping[str, Any]) -> Formula:
    """One formula for several, given by names of their own; in it the first one is picked.

    Where a name stands for another operand than in an earlier formula, that of the later formula `x` has `_x`
    behind it. Raises `FormulaError` for a name that can't mean what it does in all of them.
    """
    sides = {name: Formula.of(formula) for name, formula in formulas.items()}
    for name in map(picks, sides):
        for side in sides.values():
            if name in (*side.operands, *side.parameters):
                raise FormulaError(f"`{name}` tells formulas apart", None, "choose another name")
    taken: dict[str, Any] = {}
    bound: dict[str, Any] = {}
    for name, side in sides.items():
        apart = _apart(side, name, taken)
        taken |= apart.bindings
        bound[f"formula_{name}"] = apart
    text = " + ".join(f"{picks(name)}*formula_{name}" for name in sides)
    return Formula(text, **bound, **picked(sides, next(iter(sides))))


def _apart(formula: Formula, suffix: str, taken: Mapping[str, Any]) -> Formula:
    """The formula; an operand whose name stands for another one already is renamed."""
    names: dict[str, str] = {}
    for name, value in formula.bindings.items():
        if not isinstance(value, float) and taken.get(name, value) != value:
            names[name] = f"{name}_{suffix}"
            while names[name] in {**taken, **formula.bindings}:
                names[name] += "_"

    def change(node: Expression) -> Expression | None:
        return Name(names[node.id], node.span) if isinstance(node, Name) and node.id in names else None

    bound = {names.get(name, name): value for name, value in formula.bindings.items()}
    return Formula(str(formula.rewritten(change)), **bound)
