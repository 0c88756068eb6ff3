"""Whether an unbound name is an operand or a parameter, from where it stands.

A name is a parameter where only a scalar fits, and of a product of two unbound names the left one; otherwise
it is an operand. Possible types are narrowed from the outside in until nothing changes; then one default is
taken and the narrowing goes on.
"""

from collections.abc import Callable, Mapping
from itertools import product

from arith.language import rules
from arith.language.names import STEP, Names, walk
from arith.language.registry import Argument, find
from arith.language.rules import EVERY, D, M, S, V
from arith.language.values import Type
from grammar.tree import Call, Comparison, Document, Expression, Name, Negate, Number, Product, Quotient, Sum

Types = frozenset[Type]
UNKNOWN = frozenset({S, D})


def infer(document: Document, names: Names, bound: Mapping[str, Type]) -> dict[str, Type]:
    """The type of each free name, `bound` ones as they are bound: a dist for an operand, a scalar for a
    parameter."""
    return _Inference(document, names, bound).run()


class _Inference:
    def __init__(self, document: Document, names: Names, bound: Mapping[str, Type]):
        self.bodies = [definition.value for definition in names.definitions.values()]
        self.result = document.result
        self.definitions = {name: definition.value for name, definition in names.definitions.items()}
        self.types: dict[str, Types] = {
            name: frozenset({bound[name]}) if name in bound else UNKNOWN for name in names.free
        }
        self.known: dict[int, Types] = {}

    def run(self) -> dict[str, Type]:
        self.narrow()
        while any(len(types) > 1 for types in self.types.values()):
            self.take_a_default()
            self.narrow()
        return {name: next(iter(types)) for name, types in self.types.items()}

    def narrow(self) -> None:
        before: dict[str, Types] = {}
        while before != self.types:
            before = dict(self.types)
            for body in reversed(self.bodies):
                self.demand(body, EVERY)
            self.demand(self.result, frozenset({D}))

    def take_a_default(self) -> None:
        expressions = [node for body in [*self.bodies, self.result] for node in walk(body)]
        for node in expressions:
            if (
                isinstance(node, Product)
                and {S, D} <= self.possible(node.left)
                and {S, D} <= self.possible(node.right)
            ):
                return self.demand(node.left, frozenset({S}))
        for node in expressions:
            if isinstance(node, Comparison):
                for side, other in ((node.left, node.right), (node.right, node.left)):
                    if self.possible(other) == {S} and {S, D} <= self.possible(side):
                        return self.demand(side, frozenset({S}))
        undecided = next(name for name, types in self.types.items() if len(types) > 1)
        self.types[undecided] = frozenset({D})

    def possible(self, node: Expression) -> Types:
        """The types that an expression may have, given what is known of the names in it."""
        self.known.clear()
        return self._possible(node)

    def _possible(self, node: Expression) -> Types:
        if id(node) not in self.known:
            self.known[id(node)] = self._compute(node)
        return self.known[id(node)]

    def _compute(self, node: Expression) -> Types:
        match node:
            case Number():
                return frozenset({S})
            case Name(name):
                if name in self.definitions:
                    return self._possible(self.definitions[name])
                return frozenset({S}) if name == STEP else self.types[name]
            case Negate(operand):
                return frozenset(rules.as_value(kind) for kind in self._possible(operand))
            case Sum(terms):
                result = self._possible(terms[0])
                for term in terms[1:]:
                    result = frozenset(rules.add(a, b) for a, b in product(result, self._possible(term)))
                return result
            case Call():
                operator = find(node)
                if operator.result is not None:
                    return frozenset({operator.result})
                given = [
                    self._possible(value)
                    for argument, value in operator.bind(node)
                    if argument.name != "condition"
                ]
                return frozenset(
                    operator.returns[rules.as_value(kind)]
                    for kind in given[0]
                    if rules.as_value(kind) in operator.returns
                )
            case Product(left, right) | Quotient(left, right) | Comparison(left, _, right):
                rule = _RULES[type(node)]
                pairs = product(self._possible(left), self._possible(right))
                return frozenset(kind for a, b in pairs if (kind := rule(a, b)) is not None)

    def demand(self, node: Expression, wanted: Types) -> None:
        """Narrows the names inside so that the expression can have one of the wanted types."""
        match node:
            case Name(name):
                if name in self.definitions:
                    if wanted != EVERY:
                        self.demand(self.definitions[name], wanted)
                elif name != STEP and self.types[name] & wanted:
                    self.types[name] &= wanted
            case Negate(operand):
                self.demand(operand, _with_masks(wanted))
            case Sum(terms):
                self._demand_terms(terms, wanted)
            case Product(left, right) | Quotient(left, right) | Comparison(left, _, right):
                pairs = [
                    (a, b)
                    for a, b in product(self.possible(left), self.possible(right))
                    if _RULES[type(node)](a, b) in wanted
                ]
                self.demand(left, frozenset(a for a, _ in pairs) or EVERY)
                self.demand(right, frozenset(b for _, b in pairs) or EVERY)
            case Call():
                self._demand_arguments(node, wanted)

    def _demand_terms(self, terms: tuple[Expression, ...], wanted: Types) -> None:
        allowed = EVERY
        if D not in wanted:
            allowed = frozenset({S}) if wanted == {S} else EVERY - {D}
        can_be_dist = [term for term in terms if D in self.possible(term)]
        for term in terms:
            only = wanted == {D} and len(can_be_dist) == 1 and can_be_dist[0] is term
            self.demand(term, frozenset({D}) if only else allowed)

    def _demand_arguments(self, call: Call, wanted: Types) -> None:
        operator = find(call)
        bound = operator.bind(call)
        shared = frozenset(kind for kind, result in operator.returns.items() if result in wanted)
        for argument, value in bound:
            if argument.same:
                possible = frozenset(rules.as_value(kind) for kind in self.possible(value))
                shared = (shared & possible) or shared
        for argument, value in bound:
            self.demand(value, _with_masks(self._fitting(argument, shared)))

    @staticmethod
    def _fitting(argument: Argument, shared: Types) -> Types:
        return (argument.types & shared) or argument.types if argument.same else argument.types


def _with_masks(wanted: Types) -> Types:
    return wanted | {M} if V in wanted else wanted


_RULES: dict[type, Callable[[Type, Type], Type | None]] = {
    Product: rules.multiply,
    Quotient: rules.divide,
    Comparison: rules.compare,
}
