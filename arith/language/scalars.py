"""Arithmetic on the scalars of a graph while it is built; what is constant is computed at once."""

import math

import torch

from arith.language.graph import GraphBuilder
from arith.language.registry import Operator
from arith.language.values import Type
from grammar.errors import FormulaError
from grammar.tree import Call, Span

S = Type.SCALAR


class ScalarArithmetic:
    """Builds scalar nodes; each method gives a node's number."""

    def __init__(self, builder: GraphBuilder):
        self.builder = builder

    def constant(self, value: float, span: Span | None = None) -> int:
        """A number. Raises `FormulaError` where folding gave one that is not finite."""
        if not math.isfinite(value):
            raise FormulaError(f"this is {value}, not a finite number", span)
        return self.builder.add("constant", float(value) + 0.0, (), S)

    def is_constant(self, number: int) -> bool:
        return self.builder.nodes[number].kind == "constant"

    def of(self, number: int) -> float:
        """The value of a constant node."""
        value = self.builder.nodes[number].payload
        assert isinstance(value, float)
        return value

    def total(self, pairs: list[tuple[int, int]], span: Span | None) -> int:
        """Σ coefficient·term, with the constant part of the sum in one number."""
        constant = 0.0
        weights: dict[int, float] = {}
        products: list[int] = []
        for coefficient, term in pairs:
            product = self.product(coefficient, term, span)
            node = self.builder.nodes[product]
            if node.kind == "constant":
                constant += self.of(product)
                continue
            if node.kind == "linear":
                for weight, part in zip(node.inputs[::2], node.inputs[1::2], strict=True):
                    if self.is_constant(part):
                        constant += self.of(part) * self.of(weight)
                    else:
                        weights[part] = weights.get(part, 0.0) + self.of(weight)
            else:
                weights[product] = weights.get(product, 0.0) + 1.0
        products = [i for part, w in weights.items() if w != 0 for i in (self.constant(w, span), part)]
        if not products:
            return self.constant(constant, span)
        if constant != 0:
            products += [self.constant(1.0), self.constant(constant, span)]
        if len(products) == 2 and self.of(products[0]) == 1:
            return products[1]
        return self.builder.add("linear", None, tuple(products), S, span)

    def product(self, left: int, right: int, span: Span | None) -> int:
        if self.is_constant(left) and self.is_constant(right):
            return self.constant(self.of(left) * self.of(right), span)
        for one, other in ((left, right), (right, left)):
            if self.is_constant(one):
                if self.of(one) in (0.0, 1.0):
                    return one if self.of(one) == 0 else other
                node = self.builder.nodes[other]
                inner = node.inputs if node.kind == "linear" else (self.constant(1.0), other)
                pairs = zip(inner[::2], inner[1::2], strict=True)
                scaled = [
                    (self.constant(self.of(one) * self.of(weight), span), part) for weight, part in pairs
                ]
                return self.builder.add("linear", None, tuple(i for pair in scaled for i in pair), S, span)
        return self.builder.add("multiply", None, (left, right), S, span)

    def quotient(self, left: int, right: int, span: Span | None) -> int:
        if self.is_constant(right):
            if self.of(right) == 0:
                raise FormulaError("division by zero", span)
            if self.is_constant(left):
                return self.constant(self.of(left) / self.of(right), span)
            return self.product(self.constant(1 / self.of(right), span), left, span)
        return self.builder.add("divide", None, (left, right), S, span)

    def folded_call(self, operator: Operator, inputs: list[int], names: list[str], node: Call) -> int:
        """A call on constants alone, computed now."""
        values = [torch.tensor([[self.of(number)]], dtype=torch.float64) for number in inputs]
        return self.constant(operator.apply(names, values).item(), node.span)
