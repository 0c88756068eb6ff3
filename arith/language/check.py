"""The type of every expression of a formula, or an error that points at the one that has none."""

from collections.abc import Mapping

from arith.language import rules
from arith.language.argument import Argument
from arith.language.names import GIVEN, Names
from arith.language.registry import Operator, find
from arith.language.rules import C, D, M, S, T, V
from arith.language.values import Type
from grammar.errors import FormulaError
from grammar.printer import to_text
from grammar.tree import (
    Call,
    Comparison,
    Document,
    Expression,
    Name,
    Negate,
    Number,
    Product,
    Quotient,
    Sum,
    Text,
)

LONGEST_EXCERPT = 40
CLASSIFIERS = "a classifier takes part as `guide(classifier, on=base, k=50)` or `strength(classifier)`"
UNQUOTED = "names are written without quotes"


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
            C: CLASSIFIERS,
            T: UNQUOTED,
        }
        raise FormulaError(f"the formula is a {result}, not a dist", document.result.span, hints[result])
    return {name: types[name] for name in names.definitions}


def type_of(node: Expression, types: Mapping[str, Type]) -> Type:
    """The type of an expression whose names have the types given."""
    match node:
        case Number():
            return S
        case Text():
            return T
        case Name(name):
            return S if name in GIVEN else types[name]
        case Negate(operand):
            kind = type_of(operand, types)
            if (negated := rules.negate(kind)) is None:
                raise FormulaError(f"cannot negate a {kind}", node.span, _no_number(kind))
            return negated
        case Sum(terms):
            return _sum(node, terms, types)
        case Product(left, right):
            return _binary(node, left, right, types, "multiply")
        case Quotient(left, right):
            return _binary(node, left, right, types, "divide")
        case Comparison(left, _, right):
            return _binary(node, left, right, types, "compare")
        case Call():
            return _call(node, types)


def _sum(node: Expression, terms: tuple[Expression, ...], types: Mapping[str, Type]) -> Type:
    result = type_of(terms[0], types)
    for term in terms[1:]:
        kind = type_of(term, types)
        total = rules.add(result, kind)
        if total is None:
            raise FormulaError(f"cannot add a {result} and a {kind}", node.span, _no_number(result, kind))
        result = total
    return result


def _no_number(*kinds: Type) -> str:
    """What to do with types that take no part in arithmetic."""
    return CLASSIFIERS if C in kinds else UNQUOTED


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
    if {C, T} & {a, b}:
        return _no_number(a, b)
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
    result = operator.result_of(node)
    if result is not None:
        return result
    polymorphic = [(value, rules.as_value(kind)) for argument, value, kind in given if argument.polymorphic]
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
    if kind is T:
        hint = f"{UNQUOTED}; {hint}"
    if kind is C:
        hint = f"{CLASSIFIERS}; {hint}"
    if kind is D and argument.types == {C}:
        hint = f"bind the name to a Classifier or a RewardModel; {hint}"
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
