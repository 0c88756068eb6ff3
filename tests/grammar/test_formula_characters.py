"""Characters that the language does not have: each is named, and its ASCII form shown."""

import pytest

from grammar import FormulaError, Span, parse

POWERS = "there are no powers; write a product, `x*x` for the square of x"
NAMES = "names are made of the letters a-z and A-Z, digits and `_`"
BOTH = "to ask for two things at once, multiply: `(a < b)*(c < d) > 0`"

# The span is what stands between `<` and `>`.
TABLE: list[tuple[str, str, str]] = [
    ("a<^>2", "`^` is not part of the language", POWERS),
    ("a<\N{SUPERSCRIPT TWO}>", "`\u00b2` (U+00B2 superscript two) is not part of the language", POWERS),
    ("20<%>*a", "`%` is not part of the language", "write 20% as `0.2`"),
    ("a<[>1]", "`[` is not part of the language", "only round parentheses group: `( )`"),
    ("x <:>= 3", "`:` is not part of the language", "a definition is written `name = expression`"),
    ("a<;> b", "`;` is not part of the language", "begin a new line for each statement"),
    ("a <&> b", "`&` is not part of the language", BOTH),
    ("a <!> b", "`!` is not part of the language", "`not equal` is written `!=`"),
    (
        "a<.>b",
        "`.` is not part of the language",
        "names have no dots in them, and a decimal point needs a digit next to it",
    ),
    (
        "a <\\>\n + b",
        "`\\` is not part of the language",
        "to go on in the next line, break this one after an operator or inside parentheses",
    ),
    ("a <$> b", "`$` is not part of the language", NAMES),
    ("<'>a + b", "`'` is not part of the language", "names are written without quotes: `a + b`"),
    (
        "<\N{LEFT DOUBLE QUOTATION MARK}>a\N{RIGHT DOUBLE QUOTATION MARK} + b",
        "`\N{LEFT DOUBLE QUOTATION MARK}` (U+201C left double quotation mark) is not part of the language",
        "names are written without quotes: `a + b`",
    ),
    ("a<\x00>", "the invisible character U+0000 is not part of the language", "remove it"),
    (
        "a<\N{NO-BREAK SPACE}>+ b",
        "the invisible character U+00A0 no-break space is not part of the language: put a plain space there",
        "in ASCII: `a + b`",
    ),
    (
        "<\ufeff>a",
        "the invisible character U+FEFF zero width no-break space is not part of the language: remove it",
        "in ASCII: `a`",
    ),
]


@pytest.mark.parametrize(("marked", "message", "hint"), TABLE, ids=[ascii(case[0]) for case in TABLE])
def test_a_foreign_character_is_named_and_mended(marked: str, message: str, hint: str) -> None:
    before, rest = marked.split("<")
    character, after = rest.split(">")
    text = before + character + after
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert caught.value.span == Span(text, len(before), len(before) + len(character))
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("character", "plain"),
    [
        ("\N{MINUS SIGN}", "-"),
        ("\N{EN DASH}", "-"),
        ("\N{EM DASH}", "-"),
        ("\N{MIDDLE DOT}", "*"),
        ("\N{DOT OPERATOR}", "*"),
        ("\N{MULTIPLICATION SIGN}", "*"),
        ("\N{DIVISION SIGN}", "/"),
        ("\N{FRACTION SLASH}", "/"),
        ("\N{LESS-THAN OR EQUAL TO}", "<="),
        ("\N{GREATER-THAN OR EQUAL TO}", ">="),
        ("\N{NOT EQUAL TO}", "!="),
        ("\N{FULLWIDTH PLUS SIGN}", "+"),
        ("\N{FULLWIDTH LESS-THAN SIGN}", "<"),
    ],
)
def test_operators_from_typeset_text_are_shown_in_ascii(character: str, plain: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(f"x = a\nb {character} x  # so")
    assert caught.value.message.endswith(f"is not part of the language: write `{plain}`")
    assert caught.value.hint == f"in ASCII: `b {plain} x  # so`"
    assert parse(f"b {plain} x")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("\N{GREEK SMALL LETTER ALPHA}", "names and numbers are written in ASCII: `alpha`"),
        ("\N{GREEK SMALL LETTER LAMDA}_1", "names and numbers are written in ASCII: `lambda_1`"),
        ("\N{GREEK CAPITAL LETTER DELTA}x", "names and numbers are written in ASCII: `Deltax`"),
        ("\N{MATHEMATICAL ITALIC SMALL BETA}", "names and numbers are written in ASCII: `beta`"),
        ("na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve", "names and numbers are written in ASCII: `naive`"),
        ("x\N{SUBSCRIPT ONE}", "names and numbers are written in ASCII: `x1`"),
        ("\N{VULGAR FRACTION ONE HALF}", "names and numbers are written in ASCII: `1/2`"),
        ("\N{ARABIC-INDIC DIGIT ONE}", NAMES),
        ("\u4f60\u597d", NAMES),
    ],
)
def test_a_name_in_another_script_is_marked_whole_and_spelled(word: str, hint: str) -> None:
    text = f"2*{word} + b"
    with pytest.raises(FormulaError, match="is not an ASCII letter or digit") as caught:
        parse(text)
    assert caught.value.span == Span(text, 2, 2 + len(word))
    assert caught.value.hint == hint
