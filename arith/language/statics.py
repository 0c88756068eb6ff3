"""Arguments that are known when a formula is compiled: names, numbers, flags and texts."""

from collections.abc import Callable, Mapping

from arith.language.argument import Argument
from arith.language.names import TRUTHS
from arith.language.rules import C, D, T
from grammar.errors import FormulaError
from grammar.tree import Definition, Expression, Name, Text


def static_value(
    operator: str,
    argument: Argument,
    expression: Expression,
    definitions: Mapping[str, Definition],
    constant: Callable[[Expression], float | None],
) -> float | bool | str:
    """The argument's value as plain data. `constant` gives the number that an expression is, or None.

    Raises `FormulaError` for an expression where a name is wanted, a number that depends on parameters or
    rows, and a value outside the argument's domain.
    """
    plain = expression
    while isinstance(plain, Name) and plain.id in definitions:
        plain = definitions[plain.id].value
    what = f"`{argument.name}` of `{operator}`"
    value: float | str | None
    if argument.types <= {C, D}:
        value = plain.id if isinstance(plain, Name) else None
        wanted = "the name of an operand" if D in argument.types else "the name of a classifier"
    elif argument.flag:
        # Spelled out where it stands, since it may decide the type of the whole call.
        value = TRUTHS.get(expression.id) if isinstance(expression, Name) else None
        wanted = "`true` or `false`"
    elif isinstance(plain, Text):
        value, wanted = plain.value, "a text"
    else:
        value, wanted = constant(expression), "a number that is known beforehand"
    if value is None:
        raise FormulaError(f"{what} has to be {wanted}, not an expression", expression.span, _fix(argument))
    if argument.domain is not None and not argument.domain.holds(value):
        said = f'"{value}"' if isinstance(value, str) else f"{value:g}"
        raise FormulaError(f"{what} is {said}: it has to be {argument.domain.words}", expression.span)
    return bool(value) if argument.flag else value


def _fix(argument: Argument) -> str:
    if argument.types <= {C, D}:
        return "it is the model itself that is asked, and not a formula over it"
    if argument.flag:
        return "a flag is no number that could be computed"
    return "write the number, or a text in quotes" if T in argument.types else "write the number itself"
