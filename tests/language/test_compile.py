"""The compiled graph: what is folded, shared and collapsed, which operands it needs, and how it prints."""

import pytest
import torch

from arith.language import Formula
from arith.language.graph import Called, Node
from arith.language.inputs import Inputs
from grammar.errors import FormulaError


def bound(text: str, operands: str) -> Formula:
    return Formula(text, **{name: object() for name in operands.split()})


def kinds(formula: Formula) -> list[str]:
    return [node.kind for node in formula.program.nodes]


def weights(formula: Formula) -> dict[str, object]:
    """Operand to constant weight, of a formula that is one weighted sum of operands."""
    nodes: tuple[Node, ...] = formula.program.nodes
    result = nodes[-1]
    assert result.kind == "linear"
    assert {node.kind for node in nodes} <= {"operand", "constant", "linear"}
    pairs = zip(result.inputs[::2], result.inputs[1::2], strict=True)
    return {str(nodes[term].payload): nodes[weight].payload for weight, term in pairs}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 0.5*b", {"a": 1.0, "b": 0.5}),
        ("2*(a - 3*(b + a/4)) - -c", {"a": 0.5, "b": -6.0, "c": 1.0}),
        ("(a + b)/4 + 0.25*b", {"a": 0.25, "b": 0.5}),
        ("a*(1 + 2*3) + b*(7 - 8/2)/2", {"a": 7.0, "b": 1.5}),
        ("temper(a - b, 0.5) + c", {"a": 2.0, "b": -2.0, "c": 1.0}),
        ("d = b - a\na + 0.75*d + 2 + exp(1)", {"a": 0.25, "b": 0.75}),
        ("a + 3*b - b - 2*b", {"a": 1.0}),
        ("exp(log(4))*a - abs(-2)*b + max(2, 3)*clamp(9, max=1)*c", {"a": 4.0, "b": -2.0, "c": 3.0}),
    ],
)
def test_a_log_linear_formula_is_one_weighted_sum_of_the_raw_operands(
    text: str, expected: dict[str, float]
) -> None:
    formula = bound(text, "a b c" if "c" in expected else "a b")
    if list(expected) == ["a"]:
        assert kinds(formula) == ["operand"]
        return
    assert weights(formula) == pytest.approx(expected, rel=1e-15)


def test_weights_with_parameters_collapse_as_well() -> None:
    program = bound("a + x*(b - a) + y*(2*x*b)", "a b").program
    linear = [node for node in program.nodes if node.kind == "linear" and str(node.type) == "dist"]
    assert len(linear) == 1 and len(linear[0].inputs) == 4
    leaf = {name: torch.tensor([[1.0, 2.0, 5.0]]) * k for name, k in (("a", 1.0), ("b", -2.0))}
    inputs = Inputs(leaf, {"x": torch.tensor([[0.5]]), "y": torch.tensor([[3.0]])}, {}, 1, 3, CPU)
    expected = 0.5 * leaf["a"] + (0.5 + 3.0) * leaf["b"]
    torch.testing.assert_close(program.log_probs(inputs), expected.log_softmax(-1))


@pytest.mark.parametrize(
    "text",
    ["a + x*b - 3", "(a - b)/x + t*b", "average(a - x*b) + b", "top_k(a + b, 3)", "log(p(a)*2)", "kl(a, b)*a",
     "within(a, top_p(b, 0.9))", "temper(a + b, x)"],
)  # fmt: skip
def test_operands_are_not_normalised_where_a_constant_would_not_show(text: str) -> None:
    program = bound(text, "a b" if "b" in text else "a").program
    for node in program.nodes:
        if node.payload == Called("normalize", ("f",)):
            assert all(program.nodes[number].kind != "operand" for number in node.inputs)


@pytest.mark.parametrize(
    "text",
    ["max(a, b)", "min(a, 2*b)", "where(a > b, a, b)", "abs(a + b)", "log(exp(a) + p(b))", 
     "clamp(a - b, max=1)",
     "within(a, b > -3)", "average(max(a, 2*b) + a)"],
)  # fmt: skip
def test_operands_are_normalised_where_a_constant_would_show(text: str) -> None:
    program = bound(text, "a b").program
    normalised = {
        program.nodes[node.inputs[0]].payload
        for node in program.nodes
        if node.payload == Called("normalize", ("f",))
    }
    assert normalised & {"a", "b"}


def test_equal_subexpressions_are_computed_once() -> None:
    formula = bound(
        "d = max(a, b)\nwhere(entropy(max(a, b)) > 1, d, top_k(d, 3)) + kl(max(a, b), a)*d", "a b"
    )
    text = str(formula.program)
    assert text.count("max(") == 1
    assert text.count("normalize(") == 2
    assert len(formula.program.nodes) == len(set(formula.program.nodes))


def test_unused_definitions_are_not_computed() -> None:
    assert kinds(bound("unused = max(a, b)\nc", "c")) == ["operand"]


def test_constants_are_folded() -> None:
    formula = bound("top_k(a, 2 + 3*2) + b*(max(2, 3) - entropy_weight)", "a b")
    text = str(Formula("top_k(a, 2 + 3*2)").program)
    assert "k=8" in text
    assert "-1·entropy_weight + 1·3" in str(formula.program)


NEEDED: list[tuple[str, dict[str, float], str]] = [
    ("a + x*b", {"x": 0.0}, "a"),
    ("a + x*b", {"x": -0.0}, "a"),
    ("a + x*b", {"x": 1e-30}, "a b"),
    ("a + x*(b - a)", {"x": 0.0}, "a"),
    ("a + x*(b - a)", {"x": 1.0}, "b"),
    ("a + x*y*b + (x - 1)*c", {"x": 1.0, "y": 0.0}, "a"),
    ("a + x*max(b, c)", {"x": 0.0}, "a"),
    ("a + x*max(b, c)", {"x": 0.5}, "a b c"),
    ("a + x/y*b", {"x": 0.0, "y": 2.0}, "a"),
    ("average(a + x*b)", {"x": 0.0}, "a"),
    ("a + temper(x*b, 2)", {"x": 0.0}, "a"),
    ("a + x*p(b)", {"x": 0.0}, "a"),
    ("a + 0*b", {}, "a"),
    ("max(a, 0*b + x)", {"x": 0.5}, "a"),
    ("x*a", {"x": 0.0}, ""),
]


@pytest.mark.parametrize(("text", "values", "needed"), NEEDED)
def test_an_operand_under_a_zero_weight_is_not_needed(
    text: str, values: dict[str, float], needed: str
) -> None:
    operands = {name: object() for name in "abc" if name in text.replace("max", "").replace("average", "")}
    formula = Formula(text, **operands, **values)
    assert formula.program.needed(values) == set(needed.split())
    leaves = {name: torch.randn(1, 6, dtype=torch.float64) for name in formula.operands}
    given = {name: torch.tensor([[value]], dtype=torch.float64) for name, value in values.items()}
    full = formula.program.log_probs(Inputs(leaves, given, {}, 1, 6, CPU))
    for name in set(leaves) - set(needed.split()):
        leaves[name] = torch.zeros(1, 6, dtype=torch.float64)
    assert torch.equal(formula.program.log_probs(Inputs(leaves, given, {}, 1, 6, CPU)), full)


def test_a_program_prints_its_graph() -> None:
    formula = bound("w = 2*alpha\nwithin(base - w*weak, top_k(base, 50)) + (p(base) > 0.1)", "base weak")
    assert str(formula.program).splitlines() == [
        "  %1 = operand base                                     : dist",
        "  %2 = operand weak                                     : dist",
        "  %3 = weighted sum -2·alpha                            : scalar",
        "  %4 = weighted sum 1·%1 + %3·%2                        : dist",
        "  %5 = top_k(f=%1, k=50)                                : dist",
        "  %6 = within(f=%4, region=%5)                          : dist",
        "  %7 = p(f=%1)                                          : vec",
        "  %8 = %7 > 0.1                                         : mask",
        "  %9 = indicator(%8)                                    : vec",
        " %10 = weighted sum 1·%6 + 1·%9                         : dist",
    ]


def test_a_sum_of_two_thousand_terms_is_one_weighted_sum() -> None:
    text = " + ".join(f"{i}*a + b" for i in range(1000))
    assert weights(bound(text, "a b")) == {"a": 499500.0, "b": 1000.0}
    names = [f"a{i}" for i in range(400)]
    assert Formula(" + ".join(names)).operands == tuple(names)


CPU = torch.device("cpu")
BODIES = {
    "sum": "{0} + {0}", "difference": "x*{0} - x*{0} + a", "max": "max({0}, 2*{0})",
    "clamp": "clamp({0}, min=-3) - {0}", "where": "where({0} > 0, {0}, 2*{0})",
    "average": "average({0} + {0})", "quotient": "{0} - {0}/2",
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_definitions_used_twice_at_every_level_take_no_exponential_time(body: str) -> None:
    chain = "\n".join(f"d{i} = {body.format(f'd{i - 1}')}" for i in range(1, 40))
    formula = Formula(f"d0 = a + b\n{chain}\nd39")
    assert formula.operands == ("a", "b")
    assert len(formula.program.nodes) < 400


def test_a_long_chain_of_definitions_compiles() -> None:
    chain = "\n".join(f"d{i} = d{i - 1} + x*b" for i in range(1, 1500))
    formula = Formula(f"{chain}\nd0 = a\nd1499", b=object())
    values = torch.randn(2, 5, dtype=torch.float64)
    result = formula.evaluate(a=values[0], b=values[1], x=0.001)
    torch.testing.assert_close(result, (values[0] + 1.499 * values[1]).log_softmax(-1))


def test_too_deep_a_formula_is_refused_and_never_overflows_the_stack() -> None:
    chain = "\n".join(f"d{i} = average(d{i - 1})*2" for i in range(1, 1500))
    assert Formula(f"{chain}\nd0 = a\naverage(d1499)").operands == ("a",)
    deep = Formula("a")
    for _ in range(700):
        deep = 2 - (-deep)
    with pytest.raises(FormulaError, match="nested too deeply"):
        assert deep.operands
