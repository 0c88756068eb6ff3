"""The type of every expression of a formula, or an error that points at the one that has none."""

from collections.abc import Mapping

from arith.language import rules
from arith.language.names import STEP, Names
from arith.language.registry import Argument, Operator, find
from arith.language.rules import D, M, S, V
from arith.language.values import Type
from grammar.errors import FormulaError
from grammar.printer import to_text
from grammar.tree import Call, Comparison, Document, Expression, Name, Negate, Number, Product, Quotient, Sum

LONGEST_EXCERPT = 40


def check(document: Document, names: Names, free: Mapping[str, Type]) -> dict[str, Type]:
    """The types of the definitions; raises `FormulaError` unless the whole formula is a dist.

    `free` gives the types of the names that are no definitions.
    """
    types = dict(free)
    for name, definition in names.definitions.items():
        types[name] = type_of(definition.value, types)
    result = type_of(document.result, types)
    if result is not D:
        hints = {
            S: "a scalar is the weight of a dist, as in `alpha*base`",
            V: "a vec of probabilities becomes a dist by `log(...)`",
            M: "a mask chooses tokens: `within(f, mask)` or `where(mask, f, g)`",
        }
        raise FormulaError(f"the formula is a {result}, not a dist", document.result.span, hints[result])
    return {name: types[name] for name in names.definitions}


def type_of(node: Expression, types: Mapping[str, Type]) -> Type:
    """The type of an expression whose names have the types given."""
    match node:
        case Number():
            return S
        case Name(name):
            return S if name == STEP else types[name]
        case Negate(operand):
            return rules.as_value(type_of(operand, types))
        case Sum(terms):
            result = type_of(terms[0], types)
            for term in terms[1:]:
                result = rules.add(result, type_of(term, types))
            return result
        case Product(left, right):
            return _binary(node, left, right, types, "multiply")
        case Quotient(left, right):
            return _binary(node, left, right, types, "divide")
        case Comparison(left, _, right):
            return _binary(node, left, right, types, "compare")
        case Call():
            return _call(node, types)


def _binary(
    node: Expression, left: Expression, right: Expression, types: Mapping[str, Type], rule: str
) -> Type:
    a, b = type_of(left, types), type_of(right, types)
    result: Type | None = getattr(rules, rule)(a, b)
    if result is not None:
        return result
    words = {
        "multiply": "multiply a {} by a {}",
        "divide": "divide a {} by a {}",
        "compare": "compare a {} with a {}",
    }
    raise FormulaError(f"cannot {words[rule].format(a, b)}", node.span, _fix(rule, left, a, right, b))


def _fix(rule: str, left: Expression, a: Type, right: Expression, b: Type) -> str:
    if rule == "compare":
        return "compare log-weights with log-weights, or probabilities `p(...)` with probabilities"
    if a is D and b is D:
        sign = "+" if rule == "multiply" else "-"
        fixed = Sum((left, right if rule == "multiply" else Negate(right)))
        said = to_text(fixed)
        return f"did you mean `{said}`?" if len(said) <= LONGEST_EXCERPT else f"did you mean `{sign}`?"
    if M in (a, b) and rule == "multiply":
        return "to keep only the tokens of a mask write `within(f, mask)`"
    return "only a scalar multiplies or divides a dist; probabilities are combined as `log(p(a) * p(b))`"


def _call(node: Call, types: Mapping[str, Type]) -> Type:
    operator = find(node)
    given = [(argument, value, type_of(value, types)) for argument, value in operator.bind(node)]
    for argument, value, kind in given:
        if kind not in argument.types and rules.as_value(kind) not in argument.types:
            raise _misfit(operator, argument, value, kind)
    if operator.result is not None:
        return operator.result
    polymorphic = [
        (value, rules.as_value(kind))
        for argument, value, kind in given
        if len(argument.types & rules.EVERY) > 1
    ]
    first = polymorphic[0][1]
    for value, kind in polymorphic[1:]:
        if kind is not first:
            raise FormulaError(
                f"`{operator.name}` takes values of one type, and this is a {kind} after a {first}",
                value.span or node.span,
                f"it is called as {operator.signature}, for example `{operator.example}`",
            )
    return operator.returns[first]


def _misfit(operator: Operator, argument: Argument, value: Expression, kind: Type) -> FormulaError:
    expected = " or ".join(sorted(str(t) for t in argument.types))
    hint = f"it is called as {operator.signature}, for example `{operator.example}`"
    if kind is V and D in argument.types:
        hint = f"a vec becomes a dist by `log(...)`; {hint}"
    if kind is V and M in argument.types:
        hint = f"a vec becomes a mask by comparing it, as in `... > 0`; {hint}"
    if kind is D and V in argument.types:
        hint = f"the probabilities of a dist are `p(...)`; {hint}"
    return FormulaError(
        f"`{argument.name}` of `{operator.name}` has to be a {expected}, and this is a {kind}",
        value.span,
        hint,
    )
