"""Trees to text and back, on generated trees: those that the parser makes and those of Python code only."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Sum,
    Text,
    children,
    parse,
    to_text,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
patient = settings(deadline=None)  # a busy machine is no failure
OPERATORS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


def named(values: list[Expression]) -> tuple[Keyword, ...]:
    return tuple(Keyword(f"p{number}", value) for number, value in enumerate(values))


def defined(values: list[Expression]) -> tuple[Definition, ...]:
    return tuple(Definition(f"x{number}", value) for number, value in enumerate(values))


def grown(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keywords = st.lists(inner, max_size=2).map(named)
        return st.one_of(
            st.builds(Negate, inner),
            st.lists(inner, min_size=2, max_size=4).map(lambda terms: Sum(tuple(terms))),
            st.builds(Product, inner, inner),
            st.builds(Quotient, inner, inner),
            st.builds(Comparison, inner, OPERATORS, inner),
            st.builds(Call, NAMES, st.lists(inner, max_size=3).map(tuple), keywords),
        )

    return st.recursive(leaves, grow, max_leaves=25)


NUMBERS = st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(abs)
TEXTS = st.builds(Text, st.text() | st.text(alphabet="n\\\"'u0041\n\t"))
PARSEABLE = grown(st.one_of(st.builds(Name, NAMES), st.builds(Number, NUMBERS), TEXTS))
ANY = grown(
    st.one_of(st.builds(Name, NAMES), st.builds(Number, st.floats(allow_nan=False, allow_infinity=False)))
)


def documents(expressions: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.builds(Document, st.lists(expressions, max_size=3).map(defined), expressions)


def value(node: Expression) -> Any:
    """What a tree says, with `-2` the same number however it is built."""
    match node:
        case Number(number):
            return number
        case Negate(operand):
            inner = value(operand)
            return -inner if isinstance(inner, float) else ("-", inner)
        case Name(id):
            return id
        case Call(function, arguments, keywords):
            names = tuple(keyword.name for keyword in keywords)
            return (function, len(arguments), names, *map(value, children(node)))
        case Comparison(left, operator, right):
            return (operator, value(left), value(right))
        case _:
            return (type(node).__name__, *map(value, children(node)))


@patient
@given(documents(PARSEABLE))
def test_printed_tree_parses_back_to_an_equal_tree(document: Document) -> None:
    assert parse(to_text(document)) == document


@patient
@given(documents(ANY))
def test_every_tree_prints_so_that_its_meaning_is_kept(document: Document) -> None:
    back = parse(to_text(document))
    assert value(back.result) == value(document.result)
    assert [(each.name, value(each.value)) for each in back.definitions] == [
        (each.name, value(each.value)) for each in document.definitions
    ]


@patient
@given(documents(ANY))
def test_canonical_text_is_its_own_canonical_text(document: Document) -> None:
    text = to_text(document)
    assert to_text(parse(text)) == text


@patient
@given(PARSEABLE)
def test_spans_hold_text_of_the_same_meaning(expression: Expression) -> None:
    text = to_text(expression)
    waiting = [(parse(text).result, "")]
    while waiting:
        node, before = waiting.pop()
        assert node.span is not None
        read = parse(before + text[node.span.start : node.span.end]).result
        if before:
            assert isinstance(read, Sum)
            read = read.terms[1]
        assert read == node
        # The span of a subtracted term begins with its sign, which by itself would bind tighter than `*`.
        later_term = "0 " if isinstance(node, Sum) else ""
        waiting.extend(
            (
                child,
                later_term if place and isinstance(child, Negate) and not _parenthesised(text, child) else "",
            )
            for place, child in enumerate(children(node))
        )


def _parenthesised(text: str, node: Expression) -> bool:
    assert node.span is not None
    return text[node.span.start] != "-"


TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\n|[A-Za-z_]\w*|[\d.]+(?:e[+-]?\d+)?|[<>=!]=|\S')
UNFINISHED = {*"+-*/<>=(,", "<=", ">=", "==", "!="}
CONTINUING = {*"+-*/<>", "<=", ">=", "==", "!="}


@patient
@given(documents(PARSEABLE), st.data())
def test_layout_never_changes_the_tree(document: Document, data: st.DataObject) -> None:
    blanks = st.sampled_from(["", " ", "\t", "  "])
    breaks = st.sampled_from(["", " ", "\n", "\r\n  ", "  # - a (\n", "\n\n# b\n\t"])
    tokens = TOKEN.findall(to_text(document))
    text, depth = data.draw(breaks), 0
    for token, following in zip(tokens, [*tokens[1:], "\n"], strict=True):
        depth += (token == "(") - (token == ")")
        may_break = depth > 0 or token in UNFINISHED or following in CONTINUING or "\n" in (token, following)
        text += token + data.draw(breaks if may_break else blanks)
    assert parse(text) == document


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (Number(2), "2"),
        (Number(0.5), "0.5"),
        (Number(1e-7), "1e-07"),
        (Number(1e22), "1e+22"),
        (Number(-2.0), "-2"),
        (Number(-0.0), "-0"),
        (Negate(Number(-2.0)), "-(-2)"),
        (Negate(Negate(Name("a"))), "-(-a)"),
        (Negate(Product(Name("a"), Name("b"))), "-(a*b)"),
        (Product(Negate(Name("a")), Name("b")), "-a*b"),
        (Product(Name("a"), Negate(Name("b"))), "a*(-b)"),
        (Product(Name("a"), Number(-2)), "a*(-2)"),
        (Product(Name("a"), Product(Name("b"), Name("c"))), "a*(b*c)"),
        (Quotient(Product(Name("a"), Name("b")), Name("c")), "a*b/c"),
        (Product(Sum((Name("a"), Name("b"))), Name("c")), "(a + b)*c"),
        (Sum((Name("a"), Negate(Product(Number(0.6), Name("b"))))), "a - 0.6*b"),
        (Sum((Name("a"), Number(-2))), "a - 2"),
        (Sum((Name("a"), Negate(Negate(Name("b"))))), "a - (-b)"),
        (Sum((Name("a"), Sum((Name("b"), Name("c"))))), "a + (b + c)"),
        (Sum((Sum((Name("a"), Name("b"))), Name("c"))), "a + b + c"),
        (Comparison(Comparison(Name("a"), "<", Name("b")), "==", Name("c")), "(a < b) == c"),
        (Sum((Name("a"), Comparison(Name("b"), "<", Name("c")))), "a + (b < c)"),
        (Call("f", ()), "f()"),
        (Call("f", (Name("a"),), (Keyword("p", Number(0.9)),)), "f(a, p=0.9)"),
        (Call("f", (), (Keyword("p", Comparison(Name("a"), "<", Name("b"))),)), "f(p=a < b)"),
        (Document((Definition("x", Name("a")),), Name("x")), "x = a\nx"),
        (Document((Definition("x", Name("a")),), Negate(Name("x"))), "x = a\n(-x)"),
        (Document((), Negate(Name("x"))), "-x"),
    ],
    ids=repr,
)
def test_canonical_form(tree: Document | Expression, text: str) -> None:
    assert to_text(tree) == text


def test_trees_deeper_than_the_stack_are_printed() -> None:
    tree: Expression = Name("a")
    for _ in range(20_000):
        tree = Negate(tree)
    assert to_text(tree) == "-(" * 19_999 + "-a" + ")" * 19_999


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 10**400])
def test_a_number_is_finite(number: float) -> None:
    with pytest.raises(FormulaError, match="has to be finite"):
        Number(number)


def test_a_sum_has_two_terms() -> None:
    with pytest.raises(FormulaError, match="at least two terms, not 1"):
        Sum((Name("a"),))
