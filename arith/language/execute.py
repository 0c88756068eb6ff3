"""One evaluation of a graph, node by node."""

from typing import Any, cast

import torch
from torch import Tensor

from arith.language.graph import Called, Node
from arith.language.inputs import Inputs
from arith.language.operators.shape import divide
from arith.language.registry import REGISTRY
from arith.language.values import Dist, Type
from grammar.errors import FormulaError

COMPARISONS = {"<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge, "==": torch.eq, "!=": torch.ne}


class Execution:
    """The values of the nodes. Undefined rows become NaN and are found by whoever reads the result; a
    comparison would hide a NaN, so it notes the rows in `faults`.

    `exact` also treats -inf in an operand as outside its support, and keeps terms of weight 0 out altogether.
    """

    def __init__(self, inputs: Inputs, exact: bool):
        self.inputs = inputs
        self.exact = exact
        self.values: dict[int, Tensor | Dist] = {}
        self.faults: list[Tensor] = []
        self.device = inputs.device
        self.dtype = inputs.dtype
        self.one = torch.ones(1, 1, dtype=self.dtype, device=self.device)

    def run(self, nodes: tuple[Node, ...], last_uses: tuple[tuple[int, ...], ...]) -> Tensor | Dist:
        """The value of the last node."""
        for number, node in enumerate(nodes):
            self.values[number] = self.compute(node)
            for done in last_uses[number]:
                del self.values[done]
        return self._wide(len(nodes) - 1)

    def compute(self, node: Node) -> Tensor | Dist:
        """The value of a node whose inputs are computed."""
        match node.kind:
            case "operand":
                return self._operand(str(node.payload))
            case "parameter":
                return self.inputs.parameters[str(node.payload)].to(self.dtype)
            case "position":
                return self.inputs.positions[str(node.payload)].to(self.dtype)
            case "constant":
                value = cast(float, node.payload)
                return self.one if value == 1 else self.one.new_full((1, 1), value)
            case "linear":
                return self._linear(node)
            case "multiply" | "divide":
                left, right = (self._tensor(i) for i in node.inputs)
                return left * right if node.kind == "multiply" else left / right
            case "indicator":
                mask = self._tensor(node.inputs[0]).to(self.dtype)
                return mask.expand(self.inputs.row_count, self.inputs.vocabulary)
            case "compare":
                return self._compare(node)
            case "winner":
                return self._winner(node)
            case _:
                return self._call(node)

    def _tensor(self, number: int) -> Tensor:
        value = self._wide(number)
        return value.masked if isinstance(value, Dist) else value

    def _wide(self, number: int) -> Tensor | Dist:
        """A value in the dtype of the evaluation; an operand's logits may come in a narrower one."""
        value = self.values[number]
        if isinstance(value, Dist) and value.logits.dtype != self.dtype:
            return Dist(value.logits.to(self.dtype), value.support)
        return value

    def _operand(self, name: str) -> Dist:
        logits = self.inputs.operands[name]
        if not self.exact:  # a sum reads them as they are, without a wider copy
            return Dist(logits)
        logits = logits.to(self.dtype)
        self.faults.append(_undefined(logits).any(-1))
        support = logits > -torch.inf
        return Dist(logits) if bool(support.all()) else Dist(torch.where(support, logits, 0.0), support)

    def _linear(self, node: Node) -> Tensor | Dist:
        total: Tensor | None = None
        support: Tensor | None = None
        for weight_number, term_number in zip(node.inputs[::2], node.inputs[1::2], strict=True):
            weight, term = self._tensor(weight_number), self.values[term_number]
            if isinstance(term, Dist) and term.support is not None:
                inside = term.support | (weight == 0)
                support = inside if support is None else support & inside
            values = term.logits if isinstance(term, Dist) else term
            if self.exact:  # what is undefined, not the product, so that the gradient of a zero weight stays
                values = torch.where((weight == 0) & ~values.isfinite(), 0.0, values)
            if weight is self.one and values.dtype == self.dtype:  # without a pass to multiply by it
                total = values if total is None else total + values
            else:
                total = weight * values if total is None else torch.addcmul(total, weight, values)
        if node.type is Type.SCALAR:
            assert total is not None
            return total
        shape = (self.inputs.row_count, self.inputs.vocabulary)
        values = (
            torch.zeros(shape, dtype=self.dtype, device=self.device) if total is None else total.expand(shape)
        )
        if node.type is Type.VEC:
            return values
        return Dist(values, None if support is None else support.expand(shape))

    def _compare(self, node: Node) -> Tensor:
        left, right = (self._tensor(i) for i in node.inputs)
        for side in (left, right):
            self.faults.append(side.isnan().any(-1))
        return COMPARISONS[str(node.payload)](left, right)

    def _winner(self, node: Node) -> Tensor:
        count = len(node.inputs) // 2
        sides = torch.stack([self._tensor(i) for i in node.inputs[:count]])
        best = sides.argmax(0, keepdim=True) if node.payload == "max" else sides.argmin(0, keepdim=True)
        carried = torch.stack([self._tensor(i).expand(sides.shape[1:]) for i in node.inputs[count:]])
        return carried.gather(0, best).squeeze(0)

    def _call(self, node: Node) -> Tensor | Dist:
        called = call_of(node)
        values = [self._wide(i) for i in node.inputs]
        if called.operator == "divide_by_weight":
            self.faults.append(self._weightless(node).any(-1))
            return divide(values[0], values[1])  # type: ignore[arg-type]
        # An operator may hide a NaN, as `top_k` does, and so what is given to it is looked at.
        self.faults += [_undefined_inside(value) for value in values]
        operator = REGISTRY[called.operator]
        domains = {argument.name: argument.domain for argument in operator.arguments}
        for place, argument in enumerate(called.arguments):
            domain = domains[argument]
            if domain is not None:
                values[place] = torch.where(domain.holds(values[place]), values[place], torch.nan)  # type: ignore[arg-type]
        try:
            result = operator.apply(called.arguments, values, called.statics, self.inputs)
        except FormulaError as error:  # what an operator refuses, it refuses without knowing its place
            raise FormulaError(error.message, error.span or node.span, error.hint) from None
        self._refuse_misshapen(node, result)
        if node.type is Type.MASK:  # which would hide that a support is empty
            supports = [value.support for value in values if isinstance(value, Dist)]
            self.faults += [~support.any(-1) for support in supports if support is not None]
        return self._given(result) if operator.takes_inputs else result

    def _refuse_misshapen(self, node: Node, result: Any) -> None:
        """Raises `FormulaError` for a result that isn't of the type that the operator has said."""
        tensor = result.logits if isinstance(result, Dist) else result
        width = 1 if node.type is Type.SCALAR else self.inputs.vocabulary
        widths = (1, width) if node.type is Type.MASK else (width,)
        fits = (
            isinstance(result, Dist) is (node.type is Type.DIST)
            and isinstance(tensor, Tensor)
            and (tensor.dtype is torch.bool) is (node.type is Type.MASK)
            and tensor.dim() == 2
            and tensor.shape[0] in (1, self.inputs.row_count)
            and tensor.shape[1] in widths
        )
        if not fits:
            got = f"a {type(result).__name__}"
            if isinstance(tensor, Tensor):
                got += f" {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
            wanted = f"a {node.type}, for {self.inputs.row_count} rows and {self.inputs.vocabulary} tokens"
            name = call_of(node).operator
            raise FormulaError(f"the operator `{name}` gave {got}, and it has to give {wanted}", node.span)

    def _given(self, result: Tensor | Dist) -> Tensor | Dist:
        """What an operator got from outside: as an operand's, its log-weights may hold -inf, and not NaN."""
        if isinstance(result, Tensor):
            return result.to(self.dtype) if result.is_floating_point() else result
        logits = result.logits.to(self.dtype)
        if not self.exact:
            return Dist(logits, result.support)
        self.faults.append(_undefined(logits).any(-1))
        finite = logits > -torch.inf
        return Dist(torch.where(finite, logits, 0.0), result.support).restrict(finite)

    def _weightless(self, node: Node) -> Tensor:
        """The tokens of an average that are divided by 0."""
        dist, zero = self.values[node.inputs[0]], self._tensor(node.inputs[1]) == 0
        assert isinstance(dist, Dist)
        return zero if dist.support is None else zero & dist.support

    def fault(self, number: int, node: Node) -> tuple[str, str | None] | None:
        """What is undefined about a node's value in a row computed alone, and the mend where there is one."""
        value = self.values[number]
        said = text_of(node)
        if node.kind == "operand" and bool(_undefined(self.inputs.operands[str(node.payload)]).any()):
            return f"operand `{node.payload}` has a log-weight that is NaN or +inf", None
        if (
            node.kind == "divide"
            and bool((self._tensor(node.inputs[1]) == 0).any())
            and node.type is Type.SCALAR
        ):
            return f"division by zero in `{said}`", None
        if node.kind == "call" and (outside := self._outside_domain(node)):
            return outside, None
        if isinstance(value, Dist):
            if value.support is not None and not bool(value.support.any()):
                return (
                    f"the support of `{said}` is empty: no token is left",
                    "widen one of the supports it is made of",
                )
            inside = value.logits if value.support is None else value.logits[value.support]
            if not bool(inside.isfinite().all()):
                return f"`{said}` has a log-weight that is not finite", None
        elif value.is_floating_point() and not bool(value.isfinite().all()):
            return f"`{said}` is not finite", None
        return None

    def _outside_domain(self, node: Node) -> str | None:
        called = call_of(node)
        if called.operator == "divide_by_weight":
            zero = bool(self._weightless(node).any())
            return "`average` divides by the sum of the coefficients, and here that is 0" if zero else None
        domains = {argument.name: argument.domain for argument in REGISTRY[called.operator].arguments}
        for argument, number in zip(called.arguments, node.inputs, strict=True):
            domain = domains[argument]
            if domain is not None and not bool(domain.holds(self._tensor(number)).all()):
                got = self._tensor(number).flatten()[0].item()
                return f"`{argument}` of `{called.operator}` is {got:.9g}: it has to be {domain.words}"
        return None


def _undefined(logits: Tensor) -> Tensor:
    return logits.isnan() | logits.isposinf()


def _undefined_inside(value: Tensor | Dist) -> Tensor:
    """The rows `[rows]` in which a value is NaN, tokens outside a support aside."""
    if not isinstance(value, Dist):
        return value.isnan().any(-1)
    undefined = value.logits.isnan()
    return (undefined if value.support is None else undefined & value.support).any(-1)


def call_of(node: Node) -> Called:
    """What a call node calls."""
    assert isinstance(node.payload, Called)
    return node.payload


def text_of(node: Node) -> str:
    """A node in the words of the formula's text, where it comes from one."""
    if node.span is not None:
        return " ".join(node.span.source[node.span.start : node.span.end].split())
    return str(node.payload.operator if isinstance(node.payload, Called) else node.payload or node.kind)
