"""Text to tree: one table of formulas, then what holds for long and deep ones."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from grammar import (
    Call,
    Comparison,
    Definition,
    Document,
    Expression,
    FormulaError,
    Keyword,
    Name,
    Negate,
    Number,
    Product,
    Quotient,
    Span,
    Sum,
    Text,
    children,
    parse,
)

TABLE: list[tuple[str, Any]] = [
    # names and numbers
    ("base", "base"),
    ("_a1", "_a1"),
    ("e5", "e5"),
    ("1", 1.0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5.0),
    ("1e-3", 0.001),
    ("2E+2", 200.0),
    ("5.e1", 50.0),
    ("0e9", 0.0),
    ("-2", ["-", 2.0]),
    # texts: some escapes, and a backslash before anything else is a backslash
    ('"a b"', {"text": "a b"}),
    ("'it\\'s'", {"text": "it's"}),
    ('"say \\"x\\""', {"text": 'say "x"'}),
    (r'"\n\t\r\u00e9"', {"text": "\n\t\r\u00e9"}),
    (r'"\d+\\d\."', {"text": r"\d+\d\."}),
    ('"# no comment"', {"text": "# no comment"}),
    # sums are flat, and read from left to right
    ("a + b", ["+", "a", "b"]),
    ("a - b + c", ["+", "a", ["-", "b"], "c"]),
    ("a + b + c + d", ["+", "a", "b", "c", "d"]),
    ("(a + b) + c", ["+", "a", "b", "c"]),
    ("((a - b)) - c", ["+", "a", ["-", "b"], ["-", "c"]]),
    ("a + (b + c)", ["+", "a", ["+", "b", "c"]]),
    ("a - (b + c)", ["+", "a", ["-", ["+", "b", "c"]]]),
    ("a + -b", ["+", "a", ["-", "b"]]),
    ("a - -b", ["+", "a", ["-", ["-", "b"]]]),
    # products are binary, and bind to the left
    ("a*b*c", ["*", ["*", "a", "b"], "c"]),
    ("a/b/c", ["/", ["/", "a", "b"], "c"]),
    ("a*b/c", ["/", ["*", "a", "b"], "c"]),
    ("a*(b/c)", ["*", "a", ["/", "b", "c"]]),
    ("a + b*c", ["+", "a", ["*", "b", "c"]]),
    ("(a + b)*c", ["*", ["+", "a", "b"], "c"]),
    # unary minus binds tighter than products
    ("-a*b", ["*", ["-", "a"], "b"]),
    ("-(a*b)", ["-", ["*", "a", "b"]]),
    ("a*-b", ["*", "a", ["-", "b"]]),
    ("a/-2", ["/", "a", ["-", 2.0]]),
    ("--a", ["-", ["-", "a"]]),
    ("-a + b", ["+", ["-", "a"], "b"]),
    ("base - 0.6*adult", ["+", "base", ["-", ["*", 0.6, "adult"]]]),
    # comparisons bind loosest
    ("a < b", ["<", "a", "b"]),
    ("a <= -b", ["<=", "a", ["-", "b"]]),
    ("a<-b", ["<", "a", ["-", "b"]]),
    ("a + b > c*d", [">", ["+", "a", "b"], ["*", "c", "d"]]),
    ("a >= 1", [">=", "a", 1.0]),
    ("a == b", ["==", "a", "b"]),
    ("a!=b", ["!=", "a", "b"]),
    ("(a < b)*(c < d)", ["*", ["<", "a", "b"], ["<", "c", "d"]]),
    ("(a < b) < c", ["<", ["<", "a", "b"], "c"]),
    # calls
    ("f()", ["f()"]),
    ("f (a)", ["f()", "a"]),
    ("top_k(base, 50)", ["top_k()", "base", 50.0]),
    ("top_p(base, p=0.9)", ["top_p()", "base", ["p=", 0.9]]),
    ("guide(a, on=b, k=50)", ["guide()", "a", ["on=", "b"], ["k=", 50.0]]),
    ("f(a == b, c)", ["f()", ["==", "a", "b"], "c"]),
    ("f(p=a == b)", ["f()", ["p=", ["==", "a", "b"]]]),
    ("-f(a + b)*g(f(c))", ["*", ["-", ["f()", ["+", "a", "b"]]], ["g()", ["f()", "c"]]]),
    # definitions, line ends, comments
    ("x = a\nx", [["x=", "a"], "x"]),
    ("y = x\nx = a\ny + x", [["y=", "x"], ["x=", "a"], ["+", "y", "x"]]),
    ("\n\n# one\n\nx = a  # two\n \t\n  # three\nx\n# four", [["x=", "a"], "x"]),
    ("x = a\r\n\r\nx\r\n", [["x=", "a"], "x"]),
    ("x = a\rx", [["x=", "a"], "x"]),
    ("x =\n  a\nx", [["x=", "a"], "x"]),
    ("a +\n\n # why\n b", ["+", "a", "b"]),
    ("a *\n b", ["*", "a", "b"]),
    ("-\na", ["-", "a"]),
    ("a <\nb", ["<", "a", "b"]),
    ("a\n+ b # minus: - x\n# - y\n  - c", ["+", "a", "b", ["-", "c"]]),
    ("x = a\n  + b\nx\n  * 2", [["x=", ["+", "a", "b"]], ["*", "x", 2.0]]),
    ("a\n/ b", ["/", "a", "b"]),
    ("a\n<= b", ["<=", "a", "b"]),
    ("a\n!= b", ["!=", "a", "b"]),
    ("f(\n  a,\n\n  # b,\n  c\n)\n", ["f()", "a", "c"]),
    ("(\na\n)", "a"),
    ("a # (", "a"),
    ("\ta\f", "a"),
]


def nested(node: Document | Expression | Keyword) -> Any:
    match node:
        case Document(definitions, result):
            defined = [[f"{each.name}=", nested(each.value)] for each in definitions]
            return [*defined, nested(result)] if defined else nested(result)
        case Number(value):
            return value
        case Text(value):
            return {"text": value}
        case Name(id):
            return id
        case Negate(operand):
            return ["-", nested(operand)]
        case Sum(terms):
            return ["+", *map(nested, terms)]
        case Product(left, right):
            return ["*", nested(left), nested(right)]
        case Quotient(left, right):
            return ["/", nested(left), nested(right)]
        case Comparison(left, operator, right):
            return [operator, nested(left), nested(right)]
        case Keyword(name, value):
            return [f"{name}=", nested(value)]
        case Call(function, arguments, keywords):
            return [f"{function}()", *map(nested, arguments), *map(nested, keywords)]


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[repr(text) for text, _ in TABLE])
def test_formula_parses_to(text: str, expected: Any) -> None:
    assert nested(parse(text)) == expected


def test_spans_hold_what_was_written() -> None:
    text = "x = 2*(a + b)  # twice\nf(x, p=-a) - x\n"
    document = parse(text)

    def written(node: Expression | Definition | Document | Keyword) -> str:
        assert node.span is not None
        assert node.span.source is text
        return text[node.span.start : node.span.end]

    definition = document.definitions[0]
    assert definition.name_span == Span(text, 0, 1)
    assert written(definition) == "x = 2*(a + b)"
    assert written(definition.value) == "2*(a + b)"
    assert [written(child) for child in children(definition.value)] == ["2", "(a + b)"]
    assert written(document) == "x = 2*(a + b)  # twice\nf(x, p=-a) - x"
    assert [written(child) for child in children(document.result)] == ["f(x, p=-a)", "- x"]
    call = children(document.result)[0]
    assert isinstance(call, Call)
    assert written(call.keywords[0]) == "p=-a"
    assert [written(child) for child in children(call)] == ["x", "-a"]


def test_spans_take_no_part_in_equality_or_hash() -> None:
    first, second = parse("a + 2*b"), parse("(a)\n  + (2 * b)")
    assert first == second
    assert hash(first) == hash(second)
    assert first.result == Sum((Name("a"), Product(Number(2), Name("b"))))


def test_numbers_are_read_exactly() -> None:
    for text in ("0.1", "123456789.123456789", "1.7976931348623157e308", "5e-324", "9" * 300):
        assert parse(text).result == Number(float(text))


def test_a_long_sum_is_flat() -> None:
    result = parse("\n".join(["a0", *(f"+ {number}*a{number}" for number in range(1, 2000))])).result
    assert isinstance(result, Sum)
    assert len(result.terms) == 2000


def test_a_sum_of_sums_in_front_is_flat() -> None:
    depth = 150
    assert parse("(" * depth + "a" + " + a)" * depth).result == Sum((Name("a"),) * (depth + 1))


@pytest.mark.parametrize(
    ("opening", "closing"), [("(", ")"), ("-", ""), ("f(", ")"), ("f(p=", ")"), ("-(", ")"), ("a*(", ")")]
)
def test_depth_is_refused_before_anything_overflows(opening: str, closing: str) -> None:
    assert parse(opening * 90 + "a" + closing * 90)
    for depth in (500, 20_000):
        with pytest.raises(FormulaError, match="more than 200 levels deep") as caught:
            parse(opening * depth + "a" + closing * depth)
        assert caught.value.hint == "give an inner part a name, `part = ...`, and use the name"


def test_the_limit_of_depth_is_exactly_200() -> None:
    for text in ("-" * 199 + "a", "*".join(["a"] * 200), "(" * 200 + "a" + ")" * 200):
        assert parse(text)
    for text in ("-" * 200 + "a", "*".join(["a"] * 201), "(" * 201 + "a" + ")" * 201):
        with pytest.raises(FormulaError, match="levels deep"):
            parse(text)


def test_depth_counts_in_definitions_too() -> None:
    with pytest.raises(FormulaError, match="levels deep"):
        parse("x = " + "-" * 300 + "a\nx")


LONG: dict[str, Callable[[int], str]] = {
    "sum": lambda n: " + ".join(["a"] * n),
    "product": lambda n: "*".join(["a"] * n),
    "arguments": lambda n: f"f({', '.join(['a'] * n)})",
    "keywords": lambda n: f"f({', '.join(f'p{i}=1' for i in range(n))})",
    "definitions": lambda n: "".join(f"x{i} = a\n" for i in range(n)) + "a",
    "two results": lambda n: "a\n" * n,
    "chained": lambda n: " < ".join(["a"] * n),
    "minus": lambda n: "-" * n + "a",
    "unclosed": lambda n: "(a)*" * n + "(",
    "nested sums": lambda n: "(" * 150 + " + ".join(["a"] * n) + " + b)" * 150,
    "foreign": lambda n: "\N{GREEK SMALL LETTER ALPHA}" * n,
}


@pytest.mark.parametrize("kind", LONG)
def test_work_grows_linearly_with_the_text(kind: str) -> None:
    """Counted in calls of functions, which do not depend on the machine."""

    def calls(size: int) -> int:
        count = 0

        def on_event(_frame: object, event: str, _argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        text = LONG[kind](size)
        before = sys.getprofile()
        sys.setprofile(on_event)
        try:
            parse(text)
        except FormulaError as error:
            str(error)
        finally:
            sys.setprofile(before)
        return count

    calls(10)
    assert calls(2000) < 2.2 * calls(1000)


def test_threads_share_the_parser() -> None:
    texts = [f"x = {number}*a\nx + b{number}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(parse, texts)) == [parse(text) for text in texts]


@pytest.mark.parametrize("value", [None, 3, b"a", ["a"]])
def test_what_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="a formula is a str, not"):
        parse(value)
