"""Any text at all is a formula or a FormulaError.

The short form runs with the other tests. The long form, a million texts, takes about a minute:

    python -m pytest tests/grammar/test_parse_fuzz.py -m slow
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import FormulaError, parse, to_text

VALID = [
    "base + alpha*arm",
    "base - 0.6*adult",
    "x = top_p(base, p=0.9)\ny = -x/2  # half\nx + (y < 1e-3)*helpful",
    "average(child - 0.6*adult)",
    "f(\n  a,\n  b=c == d\n)\n",
    "a\n  + b\n  - (c + d)*e",
    "union(top_k(base, 50), within(a, b))",
    "within(a, matching(\"[a-z ]+\")) + tokens('x', 13)",
]
PIECES = [
    *"+-*/<>=(),.#!^ \t\n",
    *(
        "\r\n",
        "a",
        "base",
        "x = ",
        "2",
        "0.5",
        ".5",
        "1e-3",
        "1e999",
        "p=",
        "f(",
        "<=",
        "==",
        "!=",
        "**",
        "# c\n",
    ),
    *(
        "((((",
        "))))",
        "and",
        "_",
        "'",
        '"',
        '"x\\n"',
        "\\",
        "\x00",
        "\N{MINUS SIGN}",
        "\N{GREEK SMALL LETTER ALPHA}",
        "\u4f60",
    ),
    *(
        "\N{NO-BREAK SPACE}",
        "\N{SUPERSCRIPT TWO}",
        "\N{COMBINING ACUTE ACCENT}",
        "\U0001f389",
        "\ud800",
        "\u2028",
    ),
]


def from_pieces(chance: random.Random) -> str:
    return "".join(chance.choices(PIECES, k=chance.randint(0, 12)))


def mutated(chance: random.Random) -> str:
    text = chance.choice(VALID)
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(text))
        end = chance.randint(start, min(len(text), start + 4))
        text = text[:start] + chance.choice(["", *PIECES]) + text[end:]
    return text


def check(text: str) -> bool:
    """Whether the text is a formula; a failure if it is neither that nor refused with a proper error."""
    try:
        document = parse(text)
    except FormulaError as error:
        assert error.message and error.hint
        if error.span is not None:
            assert 0 <= error.span.start < error.span.end <= len(text), text
        drawing = str(error).splitlines()
        assert len(drawing) == (2 if error.span is None else 4), text
        return False
    assert parse(to_text(document)) == document, text
    return True


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_random_text_is_a_formula_or_a_formula_error(count: int) -> None:
    chance = random.Random(count)
    formulas = sum(check(chance.choice((from_pieces, mutated))(chance)) for _ in range(count))
    assert count // 50 < formulas < count // 2, "both outcomes have to be common for this to test anything"


@settings(deadline=None)
@given(st.text())
def test_arbitrary_text_is_a_formula_or_a_formula_error(text: str) -> None:
    check(text)
