"""What a name is taken for, and what a formula that makes no sense is answered with: the message, the place,
the fix."""

import re

import pytest

from arith.language import Formula
from grammar.errors import FormulaError

NOT_SCALED = "only a scalar multiplies or divides a dist"
WEIGHT = "a scalar is the weight of a dist, as in `alpha*base`"
A_VEC = "a vec of probabilities becomes a dist by `log(...)`"
SHARED = "`max` takes values of one type"

# `a`, `b` and `c` are bound to operands. The span is what stands between `[` and `]`.
TABLE: list[tuple[str, str, str]] = [
    # arithmetic on dists
    ("[a*b]", "cannot multiply a dist by a dist", "did you mean `a + b`?"),
    ("c + [2*a/b]", "cannot divide a dist by a dist", "did you mean `2*a - b`?"),
    ("[a*b]*x", "cannot multiply a dist by a dist", "did you mean `a + b`?"),
    ("[(a + b)*c]", "cannot multiply a dist by a dist", "did you mean `a + b + c`?"),
    ("[a*p(b)]", "cannot multiply a dist by a vec", NOT_SCALED),
    ("[p(b)*a]", "cannot multiply a vec by a dist", NOT_SCALED),
    ("[a/p(b)]", "cannot divide a dist by a vec", NOT_SCALED),
    ("[p(b)/a]", "cannot divide a vec by a dist", NOT_SCALED),
    ("[2/a]", "cannot divide a scalar by a dist", NOT_SCALED),
    ("[a*(a > b)]", "cannot multiply a dist by a mask", "write `within(f, mask)`"),
    ("[(a > b)*a]", "cannot multiply a mask by a dist", "write `within(f, mask)`"),
    ("within(a, [b > p(a)])", "cannot compare a dist with a vec", "or probabilities `p(...)` with"),
    # what the whole formula is
    ("[1 + 2]", "the formula is a scalar, not a dist", WEIGHT),
    ("[entropy(a)]", "the formula is a scalar, not a dist", WEIGHT),
    ("[p(a)]", "the formula is a vec, not a dist", A_VEC),
    ("[0.5*p(a) + 0.5*p(b)]", "the formula is a vec, not a dist", A_VEC),
    ("[(a > b)*2]", "the formula is a vec, not a dist", A_VEC),
    ("[a > b]", "the formula is a mask, not a dist", "within(f, mask)"),
    ("m = a > b\n[m]", "the formula is a mask, not a dist", "where(mask, f, g)"),
    ("[log(t > 1)]", "a formula needs at least one operand", ""),
    # arguments of the wrong type
    ("top_k([p(a)], 3)", "`f` of `top_k` has to be a dist, and this is a vec", "a dist by `log(...)`"),
    ("top_k(a, [b])", "`k` of `top_k` has to be a scalar, and this is a dist", "top_k(f: dist, k: scalar)"),
    ("top_k(a, [p(b)])", "`k` of `top_k` has to be a scalar, and this is a vec", "`top_k(base, 50)`"),
    ("temper([2], 3) + a", "`f` of `temper` has to be a dist, and this is a scalar", "temper("),
    ("temper([a > b], 3)", "`f` of `temper` has to be a dist, and this is a mask", "temper("),
    ("a + entropy([t + 1])", "`f` of `entropy` has to be a dist, and this is a scalar", "entropy("),
    ("log([a])", "`x` of `log` has to be a scalar or vec, and this is a dist", "are `p(...)`"),
    ("within(a, [p(b)])", "`region` of `within` has to be a dist or mask, and this is a vec", "within("),
    ("within(a, [2])", "`region` of `within` has to be a dist or mask, and this is a scalar", "within("),
    ("where([a], b, c)", "`condition` of `where` has to be a mask, and this is a dist", "where("),
    ("where([(a > b)*(a > c)], b, c)", "has to be a mask, and this is a vec", "as in `... > 0`"),
    ("a + clamp(b, min=[c])", "`min` of `clamp` has to be a scalar, and this is a dist", "clamp("),
    ("max(a, [p(b)])", f"{SHARED}, and this is a vec after a dist", "for example `max(a, b)`"),
    ("max(a, b, [0])", f"{SHARED}, and this is a scalar after a dist", "for example `max(a, b)`"),
    ("where(a > b, a, [1])", "`where` takes values of one type, and this is a scalar after a dist", "where("),
    ("a + where([b > c], 1, 2)", "chooses between scalars for a whole row", "write the choice as arithmetic"),
    ("m = a > b\nwhere([m], 1, 2)*c", "chooses between scalars for a whole row", "compare scalars here"),
    # calls
    ("[top_k(a)]", "`top_k` needs the argument `k`", "top_k(f: dist, k: scalar) -> dist"),
    ("[top_k(k=3)]", "`top_k` needs the argument `f`", "for example `top_k(base, 50)`"),
    ("[top_k()]", "`top_k` needs the argument `f`", "for example `top_k(base, 50)`"),
    ("top_k(a, 3, [4])", "`top_k` takes at most 2 arguments", "top_k("),
    ("top_k(a, [kk=3])", "`top_k` has no argument `kk`", "did you mean `k`?"),
    ("top_k(a, 3, [k=4])", "argument `k` of `top_k` is given twice", "top_k("),
    ("[max(a)]", "`max` takes two or more arguments", "for example `max(a, b)`"),
    ("max(a, b, [c=c])", "`max` takes no named arguments", "for example `max(a, b)`"),
    ("a + [top_q(b, 0.9)]", "there is no operator `top_q`", "did you mean `top_p`?"),
    ("[softmax(a)]", "there is no operator `softmax`", ""),
    ("[zzzz(a)]", "there is no operator `zzzz`", "`arith operators` lists what there is"),
    # values outside a domain, constants that are no numbers
    ("top_k(a, [0])", "`k` of `top_k` is 0: it has to be a whole number of at least 1", ""),
    ("top_k(a, [-3])", "`k` of `top_k` is -3: it has to be", ""),
    ("top_k(a, [2.5])", "`k` of `top_k` is 2.5: it has to be", ""),
    ("top_k(a, [2 - 1*2])", "`k` of `top_k` is 0: it has to be", ""),
    ("k = 5 - 5\ntop_k(a, [k])", "`k` of `top_k` is 0: it has to be", ""),
    ("top_p(a, [2])", "`p` of `top_p` is 2: it has to be a number above 0 and at most 1", ""),
    ("top_p(a, p=[0])", "`p` of `top_p` is 0: it has to be", ""),
    ("min_p(a, [1.5])", "`p` of `min_p` is 1.5: it has to be a number above 0 and at most 1", ""),
    ("temper(a, [0])", "`T` of `temper` is 0: it has to be a number other than 0", ""),
    ("a*[(1e200*1e200)]", "this is inf, not a finite number", ""),
    ("a + x*[exp(1000)]", "this is inf, not a finite number", ""),
    ("[log(0)]*a", "this is -inf, not a finite number", ""),
    ("[log(-1)]*a", "this is nan, not a finite number", ""),
    ("a + [1/0]*b", "division by zero", ""),
    ("[a/(1 - 1)]", "division by zero", ""),
    ("[x/0]*a", "division by zero", ""),
    ("[average(a - b)]", "`average` divides by the sum of the coefficients", "leave `average` out"),
    ("[average(0*a + p(b))]", "here that is 0", "leave `average` out"),
    ("[average(0.1*a + 0.2*b - 0.3*c)]", "here that is 0", "leave `average` out"),
    # names
    ("a + [top_k]", "`top_k` is an operator", "call it, as in `top_k(base, 50)`"),
    ("a + [max]*2", "`max` is an operator", "call it, as in `max(a, b)`"),
    ("[t] = 2\na", "`t` is reserved: it is the number of tokens generated so far", ""),
    ("[log] = 2\na", "`log` is reserved: it is an operator", "choose another name"),
    ("[union] = 2\na", "`union` is reserved: it is an operator", "choose another name"),
    ("x = [frob(a)]\nb", "there is no operator `frob`", ""),
    ("x = [top_k(a)]\nb", "`top_k` needs the argument `k`", ""),
    ("[m] = m + a\nm", "circular definition: `m` -> `m`", ""),
    ("[m] = n + a\nn = 2*m\nm", "circular definition: `m` -> `n` -> `m`", ""),
    ("d = b\n[m] = n + d\nn = o\no = 2*m\na", "circular definition: `m` -> `n` -> `o` -> `m`", ""),
    ("m = [a*b]\nm + c", "cannot multiply a dist by a dist", "did you mean `a + b`?"),
    ("m = p(a)\nc + [m*b]", "cannot multiply a vec by a dist", NOT_SCALED),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "message", "hint"), TABLE, ids=[marked for marked, _, _ in TABLE])
def test_a_formula_without_meaning_is_answered_with_the_place_and_the_fix(
    marked: str, message: str, hint: str
) -> None:
    text = marked.replace("[", "").replace("]", "")
    used = set(re.findall(r"\w+", text))
    operands = {name: object() for name in ("a", "b", "c") if name in used}
    with pytest.raises(FormulaError) as caught:
        Formula(text, **operands)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.span is not None
    assert (caught.value.span.start, caught.value.span.end) == (marked.index("["), marked.index("]") - 1)


# formula, operands, parameters; nothing is bound
INFERRED: list[tuple[str, str, str]] = [
    ("base", "base", ""),
    ("base + arm", "base arm", ""),
    ("base + alpha*arm", "base arm", "alpha"),
    ("alpha*arm", "arm", "alpha"),
    ("arm*alpha", "alpha", "arm"),  # of two unbound names the left one
    ("alpha*beta*arm", "arm", "alpha beta"),
    ("-alpha*arm", "arm", "alpha"),
    ("arm*2", "arm", ""),
    ("2*arm", "arm", ""),
    ("(1 + g)*cond - g*uncond", "cond uncond", "g"),
    ("alpha*(a - b)", "a b", "alpha"),
    ("(a - b)*alpha", "a b", "alpha"),
    ("base + (alpha + beta)*arm", "base arm", "alpha beta"),
    ("base + (alpha - gamma*entropy(base))*arm", "base arm", "alpha gamma"),
    ("base + exp(alpha)*arm", "base arm", "alpha"),
    ("base + exp(-alpha*t)*arm", "base arm", "alpha"),
    ("base + exp(x - y)*arm", "base arm", "x y"),
    ("base + arm/exp(alpha)", "base arm", "alpha"),
    ("base + 1/(1 + exp(-k*(entropy(base) - m)))*arm", "base arm", "k m"),
    ("log(p(a)/exp(b))", "a b", ""),
    ("base + guide(formal, on=base, k=9)", "base formal", ""),
    ("base + strength(formal)*arm", "base formal arm", ""),
    ("base - w*layer(base, 2)", "base", "w"),
    ("base/tau", "base", "tau"),
    ("base/(tau*2)", "base", "tau"),
    ("x/y*base", "base", "x y"),
    ("z + a - b/c", "z a b", "c"),
    ("top_k(base, k)", "base", "k"),
    ("top_p(base + w*arm, p=share)", "base arm", "w share"),
    ("clamp(base, min=low, max=high)", "base", "low high"),
    ("temper(base, T)", "base", "T"),
    ("max(a, b)", "a b", ""),
    ("max(x, y)*a", "a", "x y"),
    ("exp(x)*a", "a", "x"),
    ("log(x*p(a) + y*p(b))", "a b", "x y"),
    ("base + x*p(arm)", "base arm", "x"),
    ("entropy(a)*b", "a b", ""),
    ("kl(a, b)*c + js(d, e)*c", "a b c d e", ""),
    ("within(a, b)", "a b", ""),
    ("within(a, b > c)", "a b c", ""),
    ("within(a, p(b) > x)", "a b", "x"),
    ("where(entropy(a) > x, a, b)", "a b", "x"),
    ("where(x > 0, a, b)", "a b", "x"),
    ("where(t < n, a, b)", "a b", "n"),
    ("average(child - w*adult)", "child adult", "w"),
    ("base + t*arm", "base arm", ""),
    ("d = b - a\nb + x*d", "b a", "x"),
    ("d = b - a\nb + d*x", "b a", "x"),
    ("w = x + y\nw*a + b/w", "a b", "x y"),
    ("w = x\nw*a", "a", "x"),
    ("m = a > x\nwithin(b, m)", "a x b", ""),
    ("m = p(a) > x\nwithin(b, m)", "a b", "x"),
    ("unused = z + y\na", "a", ""),
    ("x0 = a + b\nx1 = where(x0 > 0, x0, x0)\nx1", "a b", ""),
]


@pytest.mark.parametrize(("text", "operands", "parameters"), INFERRED, ids=[text for text, _, _ in INFERRED])
def test_an_unbound_name_is_a_parameter_where_only_a_scalar_fits(
    text: str, operands: str, parameters: str
) -> None:
    formula = Formula(text)
    assert (formula.operands, formula.parameters) == (tuple(operands.split()), tuple(parameters.split()))


def test_a_binding_decides_what_a_name_is() -> None:
    formula = Formula("arm*alpha + beta", arm=object(), beta=0.5)
    assert (formula.operands, formula.parameters) == (("arm",), ("alpha", "beta"))
    formula = Formula("x*y", y=2)
    assert (formula.operands, formula.parameters) == (("x",), ("y",))


@pytest.mark.parametrize("value", [None, True, "a model", b"a", [1], {}, float("nan"), float("inf"), 10**400])
def test_a_name_is_bound_to_an_operand_a_finite_number_or_a_formula(value: object) -> None:
    with pytest.raises(FormulaError, match="`b`"):
        Formula("a + b", b=value)


@pytest.mark.parametrize(
    ("text", "bindings", "message"),
    [
        ("a + b", {"c": 1}, "`c` is bound, but the formula does not use it"),
        ("base + arm", {"amr": object()}, "did you mean `arm`?"),
        ("a", {"f": Formula("b")}, "`f` is bound, but the formula does not use it"),
        ("u = b\na", {"b": object()}, "`b` is bound, but the formula does not use it"),
        ("m = b\nm", {"m": object()}, "`m` is bound, but the formula defines it"),
        ("m = b\nm", {"m": Formula("c")}, "`m` is bound, but the formula defines it"),
        ("a", {"t": 1}, "`t` is reserved"),
        ("a", {"max": object()}, "`max` is reserved: it is an operator"),
    ],
)
def test_a_binding_that_could_have_no_effect_is_refused(
    text: str, bindings: dict[str, object], message: str
) -> None:
    with pytest.raises(FormulaError, match=message.replace("?", r"\?")):
        Formula(text, **bindings)


def test_names_without_a_meaning_are_reported_with_the_nearest_one() -> None:
    formula = Formula("base + alpha*arms", base=object(), alpha=1)
    with pytest.raises(FormulaError, match="unknown name `arms`") as caught:
        Formula("base + alpha*arms", base=object()).bound_operands()
    assert caught.value.span is not None and caught.value.span.start == 13
    with pytest.raises(FormulaError, match=r"`base` is bound, but .*\n.*did you mean `bse`"):
        Formula("bse + 2*x", base=object())
    with pytest.raises(FormulaError, match="has no parameter `alhpa`") as caught:
        formula.parameter_values({"alhpa": 1})
    assert caught.value.hint == "did you mean `alpha`?"
    with pytest.raises(FormulaError, match="the parameter `alpha` has no value") as caught:
        Formula("base + alpha*arm").parameter_values()
    assert caught.value.span is not None and (caught.value.span.start, caught.value.span.end) == (7, 12)
    assert formula.parameter_values({"alpha": 0.25}) == {"alpha": 0.25}
    assert formula.parameter_values() == {"alpha": 1.0}


@pytest.mark.parametrize("value", ["1", None, True, float("nan"), float("-inf"), 10**400])
def test_a_parameter_is_a_finite_number(value: object) -> None:
    with pytest.raises(FormulaError, match="the parameter `x` has to be a finite number"):
        Formula("a + x*b").parameter_values({"x": value})


def test_a_formula_is_a_text() -> None:
    with pytest.raises(TypeError, match="a formula is a text, not a int"):
        Formula(3)  # type: ignore[arg-type]


GIVEN: list[tuple[str, str, str]] = [
    ("base + guide([base + a], on=base, k=3)", "of `guide` has to be a classifier", "Classifier"),
    ("base + guide(base, on=[base], k=3)", "has to be a dist, and this is a class", "strength"),
    ("base + [guide(f, k=3)]", "`guide` needs the argument `on`", "guide(formal, on=base, k=50)"),
    ("base + guide(f, on=base, k=[x])", "has to be a number that is known beforehand", "number itself"),
    ("base + [guide(f, on=top_k(base, 5), k=9)]", "is 9, and the support of `on` has 5", "k=5"),
    ("base + guide(f, on=base, k=3, bayes=[2])", "has to be `true` or `false`", "no number"),
    ("base + guide(f, on=base, k=3, restrict=[1])", "has to be `true` or `false`", "no number"),
    ("base + guide(f, on=base, k=3, restrict=[x])", "has to be `true` or `false`", "no number"),
    ("yes = true\nbase + guide(f, on=base, k=3, restrict=[yes])", "has to be `true` or `false`", "no number"),
    ("[vocabulary]*base", "`vocabulary` is reserved", "another name"),
    ("base + [formula]", "`formula` is reserved", "another name"),
    ("[base + f + guide(f, on=base, k=3)]", "cannot add a dist and a classifier", "guide(classifier"),
    ("base + [2*f] + guide(f, on=base, k=3)", "cannot multiply a scalar by a classifier", "guide(classifier"),
    ("base + [-f] + guide(f, on=base, k=3)", "cannot negate a classifier", "guide(classifier"),
    ("base + strength([2*base])", "has to be a classifier, and this is a dist", "Classifier"),
    ("[base + strength(base)]", "cannot add a classifier and a scalar", "strength(classifier)"),
    ("base - layer([base + arm], 2)", "has to be the name of an operand", "the model itself"),
    ("base - layer(base, [1.5])", "`k` of `layer` is 1.5: it has to be a whole number", ""),
    ("base - layer(base, [0 - 1])", "`k` of `layer` is -1: it has to be a whole number", ""),
    ("base - layer(base, [entropy(base)])", "known beforehand", "number itself"),
    ('[base + "x"]', "cannot add a dist and a text", "without quotes"),
    ('top_k(["base"], 3)', "has to be a dist, and this is a text", "without quotes"),
    ('["base"]', "the formula is a text, not a dist", "without quotes"),
    ('within(base, matching(["["]))', "it has to be a regular expression", ""),
    ("within(base, matching([base]))", "`pattern` of `matching` has to be a text", ""),
    ("within(base, [tokens()])", "`tokens` takes one or more `tokens`", ""),
    ("within(base, tokens([1.5]))", "it has to be the number of a token, or its text", ""),
    ("[true] = 2\nbase", "`true` is reserved: it is the number 1", "another name"),
    ("[prompt_length] = 2\nbase", "`prompt_length` is reserved", "another name"),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "message", "hint"), GIVEN, ids=[marked for marked, _, _ in GIVEN])
def test_what_is_asked_of_a_run_is_checked_before_there_is_one(marked: str, message: str, hint: str) -> None:
    start = re.search(r"\[(?!\")|\[(?=\"[^\"]*\"\])", marked)
    assert start is not None
    text = marked[: start.start()] + marked[start.end() :]
    end = text.index("]", start.start())
    with pytest.raises(FormulaError) as caught:
        _ = Formula(text[:end] + text[end + 1 :]).program
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    span = caught.value.span
    assert span is not None and (span.start, span.end) == (start.start(), end)
