"""How an error is drawn with its line, and the search for the name that was meant."""

import pickle

import pytest

from grammar import FormulaError, Span, nearest, parse


def rendered(text: str) -> str:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    return str(caught.value)


def test_the_line_is_drawn_with_carets_under_the_span() -> None:
    assert rendered("x = base\n\nx + 2 arm  # so\n") == (
        "an operator is missing between `2` and `arm`\n"
        "  3 | x + 2 arm  # so\n"
        "    |       ^^^\n"
        "hint: did you mean `2*arm`?"
    )


def test_carets_stay_aligned_behind_tabs_and_wide_characters() -> None:
    lines = rendered("\tx\t+ )").splitlines()
    assert lines[1:3] == ["  1 |     x    + )", "    |            ^"]
    wide = str(FormulaError("odd", Span("\u4f60\u597d e\u0301 ab", 6, 8))).splitlines()
    assert wide[1:3] == ["  1 | \u4f60\u597d e\u0301 ab", "    |        ^^"]


def test_line_numbers_are_as_wide_as_they_are() -> None:
    lines = rendered("\n" * 99 + "a)").splitlines()
    assert lines[1:3] == ["  100 | a)", "      |  ^"]


def test_a_span_of_several_lines_marks_the_first() -> None:
    error = FormulaError("odd", Span("a + (b\r\n + c)\r\n", 4, 13))
    assert str(error) == "odd\n  1 | a + (b\n    |     ^^"


def test_an_empty_span_at_the_end_is_drawn() -> None:
    assert str(FormulaError("odd", Span("ab", 2, 2))) == "odd\n  1 | ab\n    |   ^"
    assert str(FormulaError("odd", Span("ab\n", 3, 3))) == "odd\n  2 | \n    | ^"


def test_a_long_line_is_cut_around_the_span() -> None:
    terms = " + ".join(["x"] * 500)
    drawn = rendered(f"{terms} + * y + {terms}").splitlines()[1:3]
    assert max(map(len, drawn)) <= 112
    assert drawn[0][drawn[1].index("^")] == "*"
    assert drawn[0].startswith("  1 | ...") and drawn[0].endswith("...")
    assert rendered(f") + {terms}").splitlines()[1].startswith("  1 | ) + x")


def test_without_place_or_hint_only_the_message_is_shown() -> None:
    assert str(FormulaError("odd")) == "odd"
    assert isinstance(FormulaError("odd"), ValueError)


def test_an_error_survives_pickling() -> None:
    error = FormulaError("odd", Span("a b", 2, 3), "even")
    back = pickle.loads(pickle.dumps(error))
    assert (back.message, back.span, back.hint, str(back)) == (
        error.message,
        error.span,
        error.hint,
        str(error),
    )


def test_the_traceback_shows_no_parser_internals() -> None:
    for text in ("a +", "a b", "a $"):
        with pytest.raises(FormulaError) as caught:
            parse(text)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("bse", ["arm", "base", "basic"], "base"),
        ("Base", ["base", "arm"], "base"),
        ("harmles", ["helpful", "harmless"], "harmless"),
        ("zzz", ["base", "arm"], None),
        ("base", [], None),
        ("topk", ["top_p", "top_k"], "top_k"),
    ],
)
def test_nearest_finds_the_likely_misspelling(name: str, candidates: list[str], expected: str | None) -> None:
    assert nearest(name, candidates) == expected
