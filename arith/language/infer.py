"""Whether an unbound name is an operand or a parameter, from where it stands.

A name is a parameter where only a scalar fits, and of a product of two unbound names the left one; otherwise
it is an operand. Larger factors count as names do, but for a difference of names: in `(a - b)*alpha` the left
factor is the dist. Possible types are narrowed from the outside in until nothing changes; then defaults are
taken and the narrowing goes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

from arith.language import rules
from arith.language.argument import Argument
from arith.language.names import GIVEN, Names, walk
from arith.language.registry import find
from arith.language.rules import EVERY, C, D, M, S, T, V
from arith.language.values import Type
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

Types = frozenset[Type]
UNKNOWN = frozenset({S, D})


def infer(document: Document, names: Names, bound: Mapping[str, Type]) -> dict[str, Type]:
    """The type of each free name, `bound` ones as they are bound: a dist for an operand, a scalar for a
    parameter."""
    return _Inference(document, names, bound).run()


class _Inference:
    def __init__(self, document: Document, names: Names, bound: Mapping[str, Type]):
        self.result = document.result
        self.free = tuple(names.free)
        self.definitions = {name: definition.value for name, definition in names.definitions.items()}
        self.types: dict[str, Types] = {
            name: frozenset({bound[name]}) if name in bound else UNKNOWN for name in self.free
        }
        for name in self.named_classifiers() - bound.keys():
            self.types[name] = frozenset({C})
        self.types.update(dict.fromkeys(self.definitions, EVERY))
        self.known: dict[int, Types] = {}

    def run(self) -> dict[str, Type]:
        self.narrow()
        while self.undecided():
            self.take_defaults()
            self.narrow()
        return {name: next(iter(self.types[name])) for name in self.free}

    def named_classifiers(self) -> set[str]:
        """The free names that stand where only a classifier can."""
        bodies = (*self.definitions.values(), self.result)
        calls = [node for body in bodies for node in walk(body) if isinstance(node, Call)]
        given = [pair for call in calls for pair in find(call).bind(call)]
        return {
            value.id
            for argument, value in given
            if argument.types == {C} and isinstance(value, Name) and value.id in self.free
        }

    def undecided(self) -> list[str]:
        return [name for name in self.free if len(self.types[name]) > 1]

    def narrow(self) -> None:
        before: dict[str, Types] = {}
        while before != self.types:
            before = dict(self.types)
            for name, body in self.definitions.items():
                self.keep(name, self.possible(body))
            self.demand(self.result, frozenset({D}))
            for name, body in reversed(self.definitions.items()):
                self.demand(body, self.types[name])

    def keep(self, name: str, wanted: Types) -> None:
        """Narrows a name, unless nothing would be left: the check then finds what is wrong."""
        self.types[name] = self.types[name] & wanted or self.types[name]

    def take_defaults(self) -> None:
        """Decides what the rules of the formula leave open: left factors, then what is compared with a
        scalar, then operands."""
        before = dict(self.types)
        bodies = [[*walk(body)] for body in (*self.definitions.values(), self.result)]
        for rule in (self.take_left_factors, self.take_compared):
            for expressions in bodies:
                rule(expressions)
                if before != self.types:
                    return
        open_products = any(
            isinstance(node, Product) and self.is_open(node) for body in bodies for node in body
        )
        undecided = self.undecided()
        for name in undecided[:1] if open_products else undecided:
            self.types[name] = frozenset({D})

    def take_left_factors(self, expressions: Sequence[Expression]) -> None:
        """Left factors, and divisors of what may be a dist, are scalars."""
        for node in expressions:
            if isinstance(node, Product) and self.is_open(node) and not self.is_difference(node.left):
                self.demand(node.left, frozenset({S}))
            elif isinstance(node, Quotient) and D in self.possible(node.left):
                self.demand(node.right, frozenset({S}))

    def take_compared(self, expressions: Sequence[Expression]) -> None:
        for node in expressions:
            if isinstance(node, Comparison):
                for side, other in ((node.left, node.right), (node.right, node.left)):
                    if self.possible(other) == {S} and {S, D} <= self.possible(side):
                        self.demand(side, frozenset({S}))

    def is_open(self, node: Product) -> bool:
        left = self.possible(node.left)
        return S in left and len(left) > 1 and {S, D} <= self.possible(node.right)

    def is_difference(self, node: Expression) -> bool:
        """Whether an expression that may be a dist subtracts names from names, as in `(a - b)*alpha`: it then
        is one, for weights are rarely written so."""
        if D not in self.possible(node):
            return False
        pending, seen = [node], set()
        while pending:
            for inner in walk(pending.pop()):
                if isinstance(inner, Sum) and self._subtracts_names(inner):
                    return True
                if isinstance(inner, Name) and inner.id in self.definitions and inner.id not in seen:
                    seen.add(inner.id)
                    pending.append(self.definitions[inner.id])
        return False

    def _subtracts_names(self, node: Sum) -> bool:
        plain = [term.operand if isinstance(term, Negate) else term for term in node.terms]
        return plain != list(node.terms) and all(
            isinstance(term, Name) and {S, D} <= self.possible(term) for term in plain
        )

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
            case Text():
                return frozenset({T})
            case Name(name):
                return frozenset({S}) if name in GIVEN else self.types[name]
            case Negate(operand):
                return _known(rules.negate(kind) for kind in self._possible(operand))
            case Sum(terms):
                result = self._possible(terms[0])
                for term in terms[1:]:
                    result = _known(rules.add(a, b) for a, b in product(result, self._possible(term)))
                return result
            case Call():
                return self._of_call(node)
            case Product(left, right) | Quotient(left, right) | Comparison(left, _, right):
                rule = _RULES[type(node)]
                return _known(rule(a, b) for a, b in product(self._possible(left), self._possible(right)))

    def _of_call(self, call: Call) -> Types:
        operator = find(call)
        result = operator.result_of(call)
        if result is not None:
            return frozenset({result})
        given = next(self._possible(value) for argument, value in operator.bind(call) if argument.polymorphic)
        return _known(operator.returns.get(rules.as_value(kind)) for kind in given)

    def demand(self, node: Expression, wanted: Types) -> None:
        """Narrows the names inside so that the expression can have one of the wanted types."""
        match node:
            case Name(name):
                if name not in GIVEN:
                    self.keep(name, wanted)
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


def _known(kinds: Iterable[Type | None]) -> Types:
    return frozenset(kind for kind in kinds if kind is not None)


def _with_masks(wanted: Types) -> Types:
    return wanted | {M} if V in wanted else wanted


_RULES: dict[type, Callable[[Type, Type], Type | None]] = {
    Product: rules.multiply,
    Quotient: rules.divide,
    Comparison: rules.compare,
}
