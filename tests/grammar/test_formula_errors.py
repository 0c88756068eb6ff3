"""What a wrong formula is answered with: the message, the place, the fix. The place is marked in the text."""

import pytest

from grammar import FormulaError, parse

OPERAND = "a name, a number or `(`"
STRAY = "remove it, or add the `(` that it closes"
LEAVE_OUT = "leave it out: only a minus sign may stand in front of a value"
OPERATORS = "the operators are + - * / < <= > >= == !="
BOTH = "to ask for two things at once, multiply: `(a < b)*(c < d) > 0`"
CONTINUES = "line {} begins with an operator and so continues the line before it"

# The span is what stands between `<` and `>`.
TABLE: list[tuple[str, str, str]] = [
    # the text ends too early
    ("a <+>", "the formula ends after `+`", f"{OPERAND} is expected after it"),
    ("a <*> \n\n# b", "the formula ends after `*`", f"{OPERAND} is expected after it"),
    ("<->", "the formula ends after `-`", f"{OPERAND} is expected after it"),
    ("<x => ", "the definition of `x` has no value", "write it after `=`: `x = ...`"),
    ("a = b\n<x =>", "the definition of `x` has no value", "write it after `=`: `x = ...`"),
    ("<(>a + b", "this `(` is never closed", "add a `)` where the part in parentheses ends"),
    ("f<(>a, (b + c)", "this `(` is never closed", "add a `)` where the part in parentheses ends"),
    ("f(a)*<(>b +", "this `(` is never closed", "add a `)` where the part in parentheses ends"),
    # parentheses and commas
    ("a + b<)>", "this `)` closes nothing", STRAY),
    ("f(a)<)>*b", "this `)` closes nothing", STRAY),
    ("<)>", "`)` begins the formula, with nothing to its left", STRAY),
    ("<()>", "there is nothing in these parentheses", f"{OPERAND} is expected in them"),
    ("a<,> b", "a comma can only separate the arguments of a call", "write an operator in its place"),
    ("(a<,> b)", "a comma can only separate the arguments of a call", "write an operator in its place"),
    (
        "0<,>5*a",
        "a comma can only separate the arguments of a call",
        "a number is written with a point, as in `0.5`",
    ),
    ("f(<,>a)", "an argument is missing before this comma", "add it, or remove the comma"),
    ("f(a,<,>b)", "an argument is missing before this comma", "add it, or remove the comma"),
    ("f(a<,>)", "an argument is missing after this comma", "add it, or remove the comma"),
    # two operands next to each other
    ("2 <a>", "an operator is missing between `2` and `a`", "did you mean `2*a`?"),
    ("2<a> + b", "an operator is missing between `2` and `a`", "did you mean `2*a`?"),
    ("a <b>", "an operator is missing between `a` and `b`", "did you mean `a*b` or `a + b`?"),
    ("a <0.5>", "an operator is missing between `a` and `0.5`", "did you mean `a*0.5` or `a + 0.5`?"),
    ("1 <2>", "an operator is missing between `1` and `2`", "did you mean `1*2` or `1 + 2`?"),
    ("2<(>a + b)", "an operator is missing between `2` and `(`", "did you mean `2*(...)`?"),
    (
        "(a)<(>b)",
        "an operator is missing between `)` and `(`",
        "did you mean `(...)*(...)` or `(...) + (...)`?",
    ),
    (
        "f(a <b>)",
        "an operator or a comma is missing between `a` and `b`",
        "did you mean `a*b` or `a, b`?",
    ),
    (
        "f((a <b>))",
        "an operator is missing between `a` and `b`",
        "did you mean `a*b` or `a + b`?",
    ),
    (
        "f(a\n<b> = 3\nb",
        "an operator or a comma is missing between `a` and `b`",
        "or is the `(` of line 1 not closed where it should be?",
    ),
    ("a <and> b", "`and` is not an operator", BOTH),
    ("a <if> b else c", "`if` is not an operator", "write `where(condition, a, b)`"),
    ("<not> a", "`not` is not an operator", OPERATORS),
    # operators
    ("a + <*> b", "`*` can't follow `+`", f"{OPERAND} is expected here"),
    ("a +\n<)>", "`)` can't follow `+`", f"{OPERAND} is expected here"),
    ("f(a, <*>b)", "`*` can't follow `,`", f"{OPERAND} is expected here"),
    (
        "a * <+> b",
        "`+` can't follow `*`",
        "leave this `+` out: only a minus sign may stand in front of a value",
    ),
    ("<+>a", "`+` begins the formula, with nothing to its left", LEAVE_OUT),
    ("<*>a", "`*` begins the formula, with nothing to its left", f"{OPERAND} is expected before it"),
    ("a<**>2", "there are no powers", "write a product, `x*x` for the square of x"),
    ("a <//> b", "`//` is not an operator", "did you mean `/`?"),
    ("a <++> b", "`++` is not an operator", "did you mean `+`?"),
    ("a <===> b", "`===` is not an operator", "did you mean `==`?"),
    # `=`
    ("a = b <=> c", "a second `=` in one definition", "to compare, write `==`"),
    ("(a <=> b)", "`=` can't stand in parentheses", "to compare, write `==`"),
    ("f(a + b <=> c)", "only a single name can stand left of `=` in a call", "to compare, write `==`"),
    (
        "<a + b> = c",
        "only a single name can stand left of `=`",
        "a definition is written `name = expression`; to compare, write `==`",
    ),
    (
        "<f(x)> = 2*x",
        "only a single name can stand left of `=`",
        "there are no functions of one's own; to compare, write `==`",
    ),
    (
        "a\n<=> b",
        "`=` begins the line, with nothing to its left",
        "a definition is written `name = expression`, with the name and `=` in one line",
    ),
    ("<x =>\ny = 3\ny", "the definition of `x` has no value", "write it after `=`: `x = ...`"),
    # statements
    (
        "x = a\n<y = b>",
        "there are definitions here, but no final expression",
        "end with the expression that is wanted, for example `y`",
    ),
    (
        "<x =\na>",
        "there are definitions here, but no final expression",
        "`x =` has no value in its own line and so took that of line 2",
    ),
    (
        "x = a\n<-b>",
        "there are definitions here, but no final expression",
        f"{CONTINUES.format(2)}; for an expression of its own write `(-b)`",
    ),
    (
        "a + b\n<c + d>",
        "a second expression, after that of line 1: a formula has one, at its end",
        "begin the line with an operator to continue, or give the first a name: `name = ...`",
    ),
    (
        "<a + b>\nc = d\nc",
        "an expression comes before a definition",
        "move it to the end, or give it a name: `name = ...`",
    ),
    (
        "x = 1\n\n<x> = 2\nx",
        "`x` is defined twice: first in line 1, and again here",
        "give one of the two another name",
    ),
    # arguments
    (
        "f(p=0.9, <base>)",
        "an argument without a name comes after a named one",
        "put arguments without a name first; if `p=0.9` is a comparison, write `p == 0.9`",
    ),
    (
        "f(p=1 +\n2, <base>)",
        "an argument without a name comes after a named one",
        "put arguments without a name first",
    ),
    ("f(p=1, q=3, <p=2>)", "the argument `p` is given twice", "remove one of the two"),
    ("f(<p=>)", "the argument `p` has no value", "write `p=...`"),
    ("f(<p=>, a)", "the argument `p` has no value", "write `p=...`"),
    # numbers
    ("<1.2.3>*a", "`1.2.3` is not a number", "a number has one decimal point"),
    ("<1_000>*a", "`1_000` is not a number", "write `1000`"),
    ("<1e>*a", "`1e` is not a number", "an exponent has digits: `1e-3`"),
    ("<1e999>*a", "this number is too large", "the largest is about 1.8e308"),
    (f"a*<{'9' * 310}>", "this number is too large", "the largest is about 1.8e308"),
    ("<0.1e-999>*a", "this number is too small to differ from 0", "write `0`"),
]

# As above, between `[` and `]`, for formulas that compare.
COMPARISONS: list[tuple[str, str, str]] = [
    ("a < b [<] c", "comparisons can't be chained", "to ask for both, multiply: `(a < b)*(b < c)`"),
    ("a <= 2*b [==] c", "comparisons can't be chained", "to ask for both, multiply: `(a <= 2*b)*(2*b == c)`"),
    ("a [=<] b", "`=<` is not an operator", "did you mean `<=`?"),
    ("(a [=>] b)", "`=>` is not an operator", "did you mean `>=`?"),
    ("a [<>] b", "`<>` is not an operator", "did you mean `!=`?"),
    ("a [<]", "the formula ends after `<`", f"{OPERAND} is expected after it"),
    ("a < [>=] b", "`>=` can't follow `<`", f"{OPERAND} is expected here"),
    (
        "where(a = b, [c], d)",
        "an argument without a name comes after a named one",
        "put arguments without a name first; if `a = b` is a comparison, write `a == b`",
    ),
]


def place(marked: str, left: str, right: str) -> tuple[str, int, int]:
    """The text without its two marks, and where they stood."""
    start, end = marked.index(left), marked.rindex(right)
    return marked[:start] + marked[start + 1 : end] + marked[end + 1 :], start, end - 1


CASES = [
    *((*place(marked, "<", ">"), message, hint) for marked, message, hint in TABLE),
    *((*place(marked, "[", "]"), message, hint) for marked, message, hint in COMPARISONS),
]


@pytest.mark.parametrize(
    ("text", "start", "end", "message", "hint"), CASES, ids=[ascii(case[0]) for case in CASES]
)
def test_error_names_the_fault_the_place_and_the_fix(
    text: str, start: int, end: int, message: str, hint: str
) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    error = caught.value
    assert error.span is not None
    assert error.span.source == text
    assert (error.message, text[error.span.start : error.span.end], error.hint) == (
        message,
        text[start:end],
        hint,
    )
    assert (error.span.start, error.span.end) == (start, end)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the formula is empty"),
        (" \n\t\n", "the formula is empty"),
        ("# a\n  # b", "the formula holds only comments"),
    ],
)
def test_nothing_to_parse_is_said_plainly(text: str, message: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value) == f"{message}\nhint: write an expression, for example `base + 0.5*arm`"
