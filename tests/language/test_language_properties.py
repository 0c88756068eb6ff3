"""What holds for every formula, tried on generated ones over six tokens."""

import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from arith.errors import EvaluationError
from arith.language import Formula
from grammar.errors import FormulaError
from grammar.parse import parse
from grammar.printer import to_text

F64 = torch.float64
VOCABULARY = 6
NAMES = ("a", "b", "c")
OPERANDS: dict[str, object] = {name: object() for name in NAMES}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# Numbers that keep generated comparisons and nuclei away from ties, which rounding could decide either way.
weight = st.sampled_from(["2", "0.5", "-1", "-0.25", "3", "0", "x", "y"])
leaf = st.sampled_from(NAMES)
pair = st.sampled_from([("a", "b"), ("b", "c"), ("c", "a")])
ranking = st.one_of(leaf.map("by={}".format), pair.map(lambda ab: f"by={ab[0]} - 0.37*{ab[1]}"))


def call(name: str, *arguments: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*arguments).map(lambda given: f"{name}({', '.join(given)})")


def scalars(dists: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        weight,
        call("entropy", dists),
        pair.map(lambda ab: f"js({ab[0]}, {ab[1]})"),  # of equal ones it is 0 but for rounding
        pair.map(lambda ab: f"kl({ab[0]}, 2*{ab[1]})"),
        call("exp", weight),
        call("max", weight, weight),
        call("clamp", weight, st.just("-1"), st.just("max=1")),
        st.tuples(st.sampled_from(["max_p", "margin", "confidence"]), dists).map(
            lambda nd: f"{nd[0]}({nd[1]})"
        ),
        pair.map(lambda ab: f"tv({ab[0]}, {ab[1]})*cosine({ab[0]}, 2*{ab[1]})"),
        st.tuples(st.sampled_from(["relu", "tanh", "sigmoid", "sign"]), weight).map(
            lambda nw: f"{nw[0]}({nw[1]})"
        ),
        call("ramp", weight, st.just("-0.53"), st.sampled_from(["0.71", "0"])),
        call("decay", weight, st.sampled_from(["2", "0.7"])),
        pair.map(lambda ab: f"anchor({ab[0]}, {ab[1]} - {ab[0]}, 0.137, 2)"),
        st.tuples(st.sampled_from(["total", "largest", "smallest"]), vecs(dists)).map(
            lambda nv: f"{nv[0]}({nv[1]})"
        ),
        call("total", masks(dists)),
    )


def vecs(dists: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    simple = st.one_of(call("p", dists), pair.map(lambda ab: f"abs(p({ab[0]}) - p({ab[1]}))"))
    return st.one_of(
        simple,
        st.tuples(simple, simple).map(" + ".join),
        st.tuples(simple, simple).map(" * ".join),
        simple.map("2*{}".format),
        call("max", simple, simple),
        call("sqrt", simple),
        call("log_p", dists).map("exp({})".format),
        call("clamp", call("log_p", dists), st.just("min=-9.1")),
        call("sigmoid", dists),
        call("clamp", simple, st.just("0.013"), st.just("0.71")),
    )


def masks(dists: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        pair.map(lambda ab: f"{ab[0]} > {ab[1]}"),
        call("p", dists).map("{} < 0.237".format),
        call("entropy", dists).map("{} >= 1.03".format),
        call("complement", dists),
        pair.map(lambda ab: f"complement({ab[0]} > {ab[1]})"),
    )


def compound(dists: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(dists, dists).map(lambda ab: f"{ab[0]} + {ab[1]}"),
        st.tuples(dists, dists).map(lambda ab: f"{ab[0]} - ({ab[1]})"),
        st.tuples(scalars(dists), dists).map(lambda sd: f"{sd[0]}*({sd[1]})"),
        dists.map("({})/2".format),
        dists.map("-({})".format),
        st.tuples(dists, vecs(dists)).map(" + ".join),
        st.tuples(dists, masks(dists)).map(lambda dm: f"{dm[0]} + 0.37*({dm[1]})"),
        call("log", vecs(dists)),
        call("max", dists, dists),
        call("min", dists, dists, dists),
        call("where", masks(dists), dists, dists),
        call("within", dists, dists),
        call("within", dists, masks(dists)),
        call("top_k", dists, st.sampled_from(["1", "2", "4"])),
        call("top_p", dists, st.sampled_from(["0.317", "0.713"])),
        call("top_p", dists, st.sampled_from(["0.317", "0.713", "1"]), ranking),
        call("min_p", dists, st.sampled_from(["0.031", "0.29"])),
        call("typical", leaf, st.sampled_from(["0.317", "0.713"])),
        call("epsilon", dists, st.sampled_from(["0.031", "0.29"])),
        call("mix", dists, dists, st.sampled_from(["0.3", "sigmoid(x)", "0", "1"])),
        call("farthest", dists, dists, leaf),
        call("center", dists),
        call("relu", dists),
        call("tanh", dists),
        pair.map(lambda ab: f"sign({ab[0]} - {ab[1]})"),
        call("temper", dists, st.sampled_from(["2", "-1.5", "y + 3"])),
        call("average", dists),
        call("normalize", dists),
        call("abs", dists),
        call("clamp", dists, st.just("min=-2.7"), st.just("max=1.3")),
    )


formulas = st.recursive(leaf, compound, max_leaves=6)
seeds = st.integers(0, 2**32 - 1)


def compiled(text: str) -> Formula:
    """The formula with a term of weight 0 for every name, so that each of them is used."""
    try:
        return Formula(f"{text} + 0*a + 0*b + 0*c + 0*x + 0*y", **OPERANDS, x=0.0, y=0.0)
    except FormulaError as error:  # the one mistake that the types of the parts don't rule out
        assert "`average` divides by the sum of the coefficients" in error.message
        reject()


def inputs(seed: int, rows: int = 3) -> dict[str, Tensor]:
    """Log-weights with a few digits, so that adding a small integer to them is exact; some are -inf."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(3, rows, VOCABULARY, dtype=F64, generator=generator) * 2**13).round() / 2**12
    outside = torch.rand(3, rows, VOCABULARY, generator=generator) < 0.1
    outside[..., 0] = False
    numbers = torch.rand(2, rows, dtype=F64, generator=generator) * 2 - 1
    numbers[torch.rand(2, rows, generator=generator) < 0.2] = 0.0
    names = dict(zip(NAMES, values.masked_fill(outside, -torch.inf), strict=True))
    return {**names, "x": numbers[0], "y": numbers[1]}


def value(formula: Formula, given: dict[str, Tensor]) -> Tensor | None:
    """The formula's value; None where a row has none, which has to be said by an error that names the row."""
    try:
        return formula.evaluate(**given)
    except EvaluationError as error:
        assert "at row " in error.message
        return None


def assert_same(found: Tensor | None, expected: Tensor | None) -> None:
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@QUICK
@given(formulas, seeds)
def test_a_value_is_a_distribution(text: str, seed: int) -> None:
    result = value(compiled(text), inputs(seed))
    if result is not None:
        assert result.shape == (3, VOCABULARY) and not bool(result.isnan().any())
        torch.testing.assert_close(result.exp().sum(-1), torch.ones(3, dtype=F64), rtol=0, atol=1e-9)


@QUICK
@given(formulas, seeds, st.tuples(*[st.integers(-8, 8)] * 3))
def test_constants_added_to_operands_change_nothing(text: str, seed: int, shifts: tuple[int, ...]) -> None:
    formula, given = compiled(text), inputs(seed)
    shifted = {**given, **{name: given[name] + shift for name, shift in zip(NAMES, shifts, strict=True)}}
    assert_same(value(formula, shifted), value(formula, given))


@QUICK
@given(formulas, seeds, st.permutations(range(VOCABULARY)))
def test_the_order_of_the_tokens_does_not_matter(text: str, seed: int, order: list[int]) -> None:
    formula, given = compiled(text), inputs(seed)
    permuted = {**given, **{name: given[name][:, order] for name in NAMES}}
    expected = value(formula, given)
    assert_same(value(formula, permuted), None if expected is None else expected[:, order])


@QUICK
@given(formulas, seeds)
def test_a_row_does_not_see_the_others(text: str, seed: int) -> None:
    formula, given = compiled(text), inputs(seed)
    together = value(formula, given)
    alone = [value(formula, {name: tensor[row] for name, tensor in given.items()}) for row in range(3)]
    assert (together is None) == any(row is None for row in alone)
    if together is not None:
        assert_same(torch.stack([row for row in alone if row is not None]), together)


@QUICK
@given(formulas, seeds)
def test_a_printed_formula_is_the_same_formula(text: str, seed: int) -> None:
    formula = compiled(text)
    printed = str(formula)
    assert to_text(parse(printed)) == printed
    again = Formula(printed, **OPERANDS, x=0.0, y=0.0)
    assert again.program == formula.program
    defined = Formula(f"whole = {printed}\nwhole", **OPERANDS, x=0.0, y=0.0)
    assert_same(value(defined, inputs(seed)), value(formula, inputs(seed)))


pieces = st.sampled_from(
    [*NAMES, "x", "t", "2", "0", "-", "+", "*", "/", "<", "==", "(", ")", ",", "\n", "x = ", "k=", "max(",
     "top_k(", "log(", "average(", "p(", "where(", "within(", "temper(",
     "typical(", "complement(", "mix(", "top_p(", "by=", "log_p(", "total(", "smallest(",
     "farthest(", "sqrt(", "sign(", "anchor(", "ramp("]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=12).map("".join))
def test_a_text_is_a_formula_or_a_formula_error(text: str) -> None:
    try:
        formula = Formula(text)
    except FormulaError as error:
        assert str(error)
        return
    assert formula.operands and str(formula.program)
    given = inputs(0)
    values = dict.fromkeys(formula.operands, given["a"]) | dict.fromkeys(formula.parameters, given["y"])
    value(formula, {**values, **({"t": given["x"]} if formula.program.positions else {})})
