"""From a checked tree to the graph: constants folded, equal parts shared, log-linear parts collapsed to one
sum."""

from collections.abc import Mapping

from arith.language import check, rules
from arith.language.argument import Argument
from arith.language.bounds import most_tokens
from arith.language.graph import Called, GraphBuilder, Node, Plain
from arith.language.names import POSITIONS, TRUTHS, Names, superseding
from arith.language.registry import Operator, find
from arith.language.rules import C, D, M, S, T, V
from arith.language.scalars import ScalarArithmetic
from arith.language.statics import static_value
from arith.language.values import Type
from grammar.errors import FormulaError
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
    Span,
    Sum,
    Text,
)

WINNERS = ("max", "min")
UNWEIGHTED = ("guide",)  # guidance counts nothing in an average, be it a vec or a dist
NORMALIZE = Called("normalize", ("f",))
DIVIDE_BY_WEIGHT = Called("divide_by_weight", ("f", "weight"))
NO_WEIGHT = 1e-12  # what rounding leaves of 0.1 + 0.2 - 0.3


def lower(document: Document, names: Names, types: Mapping[str, Type]) -> tuple[Node, ...]:
    """The nodes of the formula, its result last. `types` holds those of all its names."""
    lowering = _Lowering(names, types)
    # In order of dependency, so that no chain of definitions makes a deep recursion.
    for name in names.definitions:
        for sees_shift in (False, True) if name in names.meant and types[name] not in (C, T) else ():
            lowering.definition(name, sees_shift)
    return lowering.builder.finish(lowering.value(document.result, sees_shift=False))


class _Lowering:
    """`sees_shift` says whether whoever uses a dist would notice a constant added to its log-weights: if not,
    operands stay as they come from the model, and are never normalised."""

    def __init__(self, names: Names, types: Mapping[str, Type]):
        self.names = names
        self.types = types
        self.builder = GraphBuilder()
        self.scalars = ScalarArithmetic(self.builder)
        self.one = self.scalars.constant(1.0)
        self.zero = self.scalars.constant(0.0)
        self.lowered: dict[tuple[str, bool], int] = {}
        self.weights: dict[str, int] = {}

    def type_of(self, number: int) -> Type:
        return self.builder.nodes[number].type

    def definition(self, name: str, sees_shift: bool) -> int:
        if (name, sees_shift) not in self.lowered:
            self.lowered[name, sees_shift] = self.value(self.names.definitions[name].value, sees_shift)
        return self.lowered[name, sees_shift]

    def value(self, node: Expression, sees_shift: bool) -> int:
        """The number of the node that computes an expression."""
        match node:
            case Number(value):
                return self.scalars.constant(value)
            case Name():
                return self.name(node, sees_shift)
            case Negate(operand):
                return self.combine(
                    [(self.scalars.constant(-1.0), self.value(operand, sees_shift))], sees_shift, node.span
                )
            case Sum(terms):
                return self.combine(
                    [(self.one, self.value(term, sees_shift)) for term in terms], sees_shift, node.span
                )
            case Product(left, right):
                return self.times(
                    self.value(left, sees_shift), self.value(right, sees_shift), sees_shift, node.span
                )
            case Quotient(left, right):
                return self.over(
                    self.value(left, sees_shift), self.value(right, sees_shift), sees_shift, node.span
                )
            case Comparison(left, sign, right):
                sides = (self.arithmetic(self.value(left, True)), self.arithmetic(self.value(right, True)))
                return self.builder.add("compare", sign, sides, M, node.span)
            case Call():
                return self.call(node, sees_shift)
            case Text():
                raise AssertionError("texts are static arguments")

    def name(self, node: Name, sees_shift: bool) -> int:
        if node.id in self.names.definitions:
            return self.definition(node.id, sees_shift)
        if node.id in TRUTHS:
            return self.scalars.constant(TRUTHS[node.id])
        if node.id in POSITIONS:
            return self.builder.add("position", node.id, (), S, node.span)
        if self.types[node.id] is S:
            return self.builder.add("parameter", node.id, (), S, node.span)
        operand = self.builder.add("operand", node.id, (), D, node.span)
        return self.normalized(operand, node.span) if sees_shift else operand

    def normalized(self, number: int, span: Span | None) -> int:
        if self.builder.nodes[number].payload == NORMALIZE:
            return number
        return self.builder.add("call", NORMALIZE, (number,), D, span)

    def arithmetic(self, number: int) -> int:
        """A mask as a vec of zeros and ones; anything else as it is."""
        return self.builder.add("indicator", None, (number,), V) if self.type_of(number) is M else number

    def combine(self, pairs: list[tuple[int, int]], sees_shift: bool, span: Span | None) -> int:
        """Σ coefficient·term as one node: nested sums are merged, equal terms added up, zero weights left
        out."""
        pairs = [(coefficient, self.arithmetic(term)) for coefficient, term in pairs]
        kind = S
        for _, term in pairs:
            total = rules.add(kind, self.type_of(term))
            assert total is not None, "the formula is checked"
            kind = total
        if kind is S:
            return self.scalars.total(pairs, span)
        weights: dict[int, int] = {}
        for coefficient, term in pairs:
            inner = self.builder.nodes[term]
            inputs = inner.inputs if inner.kind == "linear" else (self.one, term)
            for weight, part in zip(inputs[::2], inputs[1::2], strict=True):
                if kind is D and self.type_of(part) is S and not sees_shift:
                    continue
                scaled = self.scalars.product(coefficient, weight, span)
                weights[part] = self.scalars.total(
                    [(self.one, weights.get(part, self.zero)), (self.one, scaled)], span
                )
        kept = [(weight, term) for term, weight in weights.items() if weight != self.zero]
        if len(kept) == 1 and kept[0][0] == self.one and self.type_of(kept[0][1]) is kind:
            return kept[0][1]
        return self.builder.add("linear", None, tuple(i for pair in kept for i in pair), kind, span)

    def times(self, left: int, right: int, sees_shift: bool, span: Span | None) -> int:
        left, right = self.arithmetic(left), self.arithmetic(right)
        if self.type_of(left) is S:
            return self.combine([(left, right)], sees_shift, span)
        if self.type_of(right) is S:
            return self.combine([(right, left)], sees_shift, span)
        return self.builder.add("multiply", None, (left, right), V, span)

    def over(self, left: int, right: int, sees_shift: bool, span: Span | None) -> int:
        left, right = self.arithmetic(left), self.arithmetic(right)
        if self.type_of(right) is S and self.type_of(left) is S:
            return self.scalars.quotient(left, right, span)
        if self.type_of(right) is S:
            return self.combine([(self.scalars.quotient(self.one, right, span), left)], sees_shift, span)
        return self.builder.add("divide", None, (left, right), V, span)

    def call(self, node: Call, sees_shift: bool) -> int:
        operator = find(node)
        bound = operator.bind(node)
        if operator.name == "average":
            return self.average(bound[0][1], node.span)
        if operator.name == "supersede":  # how the large one is drafted is no part of what it means
            return self.value(superseding(node)[1], sees_shift)
        inputs: list[int] = []
        labels: list[str] = []
        statics: dict[str, Plain] = {}
        for argument, expression in bound:
            if argument.static:
                plain = static_value(
                    operator.name, argument, expression, self.names.definitions, self.constant_value
                )
                before = statics.get(argument.name, ())
                statics[argument.name] = (*before, plain) if argument.variadic else plain  # type: ignore[misc]
                continue
            sees = not argument.absorbs_shift and (sees_shift or not argument.passes_shift)
            number = self.value(expression, sees)
            self.refuse_outside_domain(operator, argument, number, expression)
            inputs.append(number if M in argument.types else self.arithmetic(number))
            labels.append(argument.name)
        if operator.name == "temper":
            return self.over(inputs[0], inputs[1], sees_shift, node.span)
        if operator.name == "normalize":
            return self.normalized(inputs[0], node.span)
        kind = operator.result_of(node) or operator.returns[self._polymorphic(operator, labels, inputs)]
        if operator.name == "where" and kind is S:
            self.refuse_token_condition(inputs[0], bound[0][1])
        if kind is S and not operator.takes_inputs and all(map(self.scalars.is_constant, inputs)):
            return self.scalars.folded_call(operator, inputs, labels, node)
        if operator.name == "guide":
            self.refuse_few_candidates(statics["k"], inputs[0], node)
        payload = Called(operator.name, tuple(labels), tuple(statics.items()))
        number = self.builder.add("call", payload, tuple(inputs), kind, node.span)
        return self.normalized(number, node.span) if operator.unnormalized and sees_shift else number

    def constant_value(self, expression: Expression) -> float | None:
        """The number that an expression is whatever rows and parameters are, or None."""
        number = self.value(expression, sees_shift=True)
        return self.scalars.of(number) if self.scalars.is_constant(number) else None

    def refuse_outside_domain(
        self, operator: Operator, argument: Argument, number: int, expression: Expression
    ) -> None:
        if argument.domain is None or not self.scalars.is_constant(number):
            return
        if not argument.domain.holds(self.scalars.of(number)):
            what = f"`{argument.name}` of `{operator.name}` is {self.scalars.of(number):g}"
            raise FormulaError(f"{what}: it has to be {argument.domain.words}", expression.span)

    def refuse_few_candidates(self, k: Plain, proposal: int, call: Call) -> None:
        most = most_tokens(self.builder.nodes, proposal)
        if isinstance(k, float) and k > most:
            message = f"`k` of `guide` is {k:g}, and the support of `on` has {most:g} tokens"
            raise FormulaError(message, call.span, f"write k={most:g}, or propose more tokens")

    def refuse_token_condition(self, mask: int, condition: Expression) -> None:
        """Of two scalars there is one for a row, so the condition has to be one for the row too."""
        if not all(self.type_of(number) is S for number in self.builder.nodes[mask].inputs):
            raise FormulaError(
                "`where` chooses between scalars for a whole row, and this condition is one for each token",
                condition.span,
                "compare scalars here, or write the choice as arithmetic: `b + (a - b)*(condition)`",
            )

    def _polymorphic(self, operator: Operator, labels: list[str], inputs: list[int]) -> Type:
        deciding = {argument.name for argument in operator.arguments if argument.polymorphic}
        pairs = zip(labels, inputs, strict=True)
        return next(self.type_of(number) for label, number in pairs if label in deciding)

    def average(self, body: Expression, span: Span | None) -> int:
        """`log_softmax(F/W)`: the division is part of the sum wherever W is a scalar."""
        weight = self.weight(body)
        if self.scalars.is_constant(weight) and abs(self.scalars.of(weight)) < NO_WEIGHT:
            message = "`average` divides by the sum of the coefficients, and here that is 0"
            raise FormulaError(message, span, "leave `average` out: a formula is taken as it is written")
        per_row = self.type_of(weight) is S
        total = self.value(body, sees_shift=not per_row)
        if per_row:
            divided = self.over(total, weight, False, span)
        else:
            divided = self.builder.add("call", DIVIDE_BY_WEIGHT, (total, weight), D, span)
        return self.normalized(divided, span)

    def weight(self, node: Expression) -> int:
        """The sum of the coefficients of an expression's dist terms: a scalar, or a vec under `max` and
        `min`."""
        if check.type_of(node, self.types) is not D:
            return self.zero
        match node:
            case Name(name) if name in self.names.definitions:
                if name not in self.weights:
                    self.weights[name] = self.weight(self.names.definitions[name].value)
                return self.weights[name]
            case Negate(operand):
                return self.combine([(self.scalars.constant(-1.0), self.weight(operand))], True, None)
            case Sum(terms):
                return self.combine([(self.one, self.weight(term)) for term in terms], True, None)
            case Product(left, right):
                scalar, dist = (left, right) if check.type_of(left, self.types) is S else (right, left)
                return self.times(self.value(scalar, True), self.weight(dist), True, None)
            case Quotient(left, right):
                return self.over(self.weight(left), self.value(right, True), True, node.span)
            case Call(function="supersede"):
                return self.weight(superseding(node)[1])
            case Call() if find(node).name in WINNERS:
                return self.winner(node)
            case Call() if find(node).name in UNWEIGHTED:
                return self.zero
            case _:
                return self.one

    def winner(self, node: Call) -> int:
        weights = [self.weight(side) for side in node.arguments]
        if len(set(weights)) == 1:
            return weights[0]
        sides = [self.value(side, sees_shift=True) for side in node.arguments]
        return self.builder.add("winner", find(node).name, (*sides, *weights), V, node.span)
