"""Measures of texts by themselves, and functions of one's own."""

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arith.errors import SpecError
from arith.study.results import ResultRow, read_results
from arith.study.scoring.python_function import PythonFunction
from arith.study.scoring.scorer import Scorer
from arith.study.scoring.text_measures import MEASURES, TextMeasure
from tests.study.written_rows import sweep_row, write_rows


def row_of(tmp_path: Path, text: str, **changes: Any) -> ResultRow:
    (row,) = read_results(write_rows(tmp_path / "out", [sweep_row(text=text, **changes)]))
    return row


def scores(scorer: Scorer, rows: list[ResultRow]) -> list[float | None]:
    found = dict(scorer.score(rows))
    return [found[place].score for place in range(len(rows))]


@pytest.mark.parametrize(
    ("text", "distinct_1", "distinct_2", "repetition"),
    [
        ("a b c d e", 1.0, 1.0, 0.0),
        ("the cat the cat", 0.5, 2 / 3, 0.0),
        ("a a a a a a", 1 / 6, 1 / 5, 2 / 3),
        ("x  y\nx\ty", 0.5, 2 / 3, 0.0),
        ("a b c d a b c d", 0.5, 4 / 7, 1 / 5),
        ("word", 1.0, None, None),
        ("", None, None, None),
    ],
)
def test_measures_of_texts_counted_by_hand(
    tmp_path: Path, text: str, distinct_1: float, distinct_2: float, repetition: float
) -> None:
    row = row_of(tmp_path, text, token_ids=[5, 6, 7, 2])
    expected = {"length": 4.0, "distinct_1": distinct_1, "distinct_2": distinct_2, "repetition": repetition}
    assert set(expected) == set(MEASURES)
    for name, value in expected.items():
        assert scores(TextMeasure(name), [row]) == [value if value is None else pytest.approx(value)]


@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=30))
def test_repetition_is_the_share_of_4_grams_that_stood_before(words: list[str]) -> None:
    row = ResultRow("f:1", 0, "p", {}, {}, 0, 0, " ".join(words), (1,), "stop", "k")
    grams = Counter("".join(words[at : at + 4]) for at in range(len(words) - 3))
    again = sum(count - 1 for count in grams.values())
    assert MEASURES["repetition"](row) == pytest.approx(again / sum(grams.values()))


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """A folder for `scoring_of_mine.py`; what it imported is forgotten after the test."""
    yield tmp_path
    sys.modules.pop("scoring_of_mine", None)
    importlib.invalidate_caches()


def written(folder: Path, source: str) -> Path:
    (folder / "scoring_of_mine.py").write_text(source)
    sys.modules.pop("scoring_of_mine", None)
    importlib.invalidate_caches()
    return folder


def test_a_function_is_of_prompt_and_text_or_of_the_row(module: Path) -> None:
    two = "def two(prompt, text, scale=2): return scale * (len(prompt) - len(text))\n"
    folder = written(module, two + "def one(row): return row.sample\n")
    row = row_of(module, "abc", sample=3)
    assert scores(PythonFunction("scoring_of_mine:two", folder), [row]) == [2 * (len("Question 0?") - 3)]
    assert scores(PythonFunction("scoring_of_mine:one", folder), [row]) == [3.0]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("return None", "gave None, which is no number"),
        ("return 'many'", "gave 'many', which is no number"),
    ],
)
def test_a_function_that_gives_no_number_is_told_with_the_row(module: Path, body: str, problem: str) -> None:
    scorer = PythonFunction("scoring_of_mine:f", written(module, f"def f(prompt, text): {body}"))
    with pytest.raises(SpecError, match=problem) as caught:
        scores(scorer, [row_of(module, "abc")])
    assert "results.jsonl:1: prompt 0, h=0.5, sample 0: `scoring_of_mine:f`" in caught.value.message


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("not_there_at_all:f", "can't import `not_there_at_all`"),
        ("scoring_of_mine:g", "there is no function `g` in `scoring_of_mine`"),
        ("scoring_of_mine:number", "there is no function `number`"),
        ("scoring_of_mine:none", "takes 0 arguments"),
        ("scoring_of_mine:three", "takes 3 arguments"),
    ],
)
def test_what_is_no_such_function_is_refused(module: Path, path: str, problem: str) -> None:
    folder = written(module, "number = 1\ndef none(): return 1\ndef three(a, b, c): return 1")
    with pytest.raises(SpecError, match=problem):
        PythonFunction(path, folder)


@pytest.mark.parametrize(
    ("source", "problem"),
    [("def f(row): return (", "SyntaxError"), ("1 / 0", "ZeroDivisionError: division by zero")],
)
def test_a_module_that_fails_is_told_in_one_message(module: Path, source: str, problem: str) -> None:
    with pytest.raises(SpecError, match=f"can't import `scoring_of_mine`: {problem}"):
        PythonFunction("scoring_of_mine:f", written(module, source))


def test_a_module_of_the_same_name_elsewhere_is_not_taken_for_it(module: Path) -> None:
    PythonFunction("scoring_of_mine:f", written(module, "def f(row): return 1\n"))
    other = module / "other"
    other.mkdir()
    (other / "scoring_of_mine.py").write_text("def f(row): return 2\n")
    with pytest.raises(SpecError, match=r"`scoring_of_mine` is .* here, and not .*other") as caught:
        PythonFunction("scoring_of_mine:f", other)
    assert caught.value.hint == "give the file another name"


def test_a_changed_function_is_another_scorer(module: Path) -> None:
    settings = [
        PythonFunction("scoring_of_mine:f", written(module, f"def f(row): return {number}\n")).settings
        for number in (1, 22, 1)
    ]
    assert settings[0] == settings[2] != settings[1]
