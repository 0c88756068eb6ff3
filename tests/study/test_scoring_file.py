"""A scorers file: what is wrong in it is told with its line, before any text is scored."""

from pathlib import Path

import pytest

from arith.errors import ArithError, OptionError, SpecError
from arith.study.results import read_results
from arith.study.scoring.keys import KINDS
from arith.study.scoring.scorers import Task, asked_for, scorer_of
from arith.study.scoring.text_measures import MEASURES
from tests.study.written_rows import grid, write_rows

JUDGE = "kind: judge\n  url: http://localhost/v1\n  model: m\n  criterion: harmless"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "scorers.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "a scorers file is a mapping"),
        ("{}", 1, "must"),
        ("a: {kind: lenght}", 1, "must be one of length, distinct_1"),
        ("a: {formula: base}", 1, "the key `a.kind` is missing"),
        ("a: length", 1, "must be a mapping of keys to values, not length"),
        ("9a: {kind: length}", 1, "a name is letters"),
        ("a:\n  kind: length\n  n: 2", 3, "unknown key `a.n`"),
        ("a:\n  kind: log_likelihood\n  formula: base\n  per_tokens: true", 4, "did you mean `per_token`?"),
        ("b: {kind: length}\na:\n  kind: log_likelihood", 2, "the key `a.formula` is missing"),
        ("a:\n  kind: log_likelihood\n  formula: base\n  per_token: 1", 4, "`a.per_token`"),
        ("a:\n  kind: log_likelihood\n  formula: base\n  params: {h: x}", 4, "`a.params.h`"),
        ("a:\n  kind: reward", 1, "the key `a.model` is missing"),
        ("a:\n  kind: classifier\n  model: m", 1, "the key `a.label` is missing"),
        ("a:\n  kind: python\n  function: just_a_name", 3, "`a.function`"),
        (f"a:\n  {JUDGE}\n  price:\n    inptu: 1\n    output: 1", 7, "did you mean `input`?"),
        ("a:\n  kind: reward\n  modle: m", 3, "did you mean `model`?"),
        (f"a:\n  {JUDGE}\n  swop: none", 6, "did you mean `swap`?"),
        ("a: {kind: length}\na: {kind: length}", 2, "`a` stands twice"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        asked_for([path])
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


def test_every_measure_is_a_kind_and_needs_no_file() -> None:
    assert set(MEASURES) <= set(KINDS)
    assert list(asked_for(list(MEASURES))) == list(MEASURES)


def test_names_of_several_files_are_taken_together_and_stand_once(tmp_path: Path) -> None:
    path = written(tmp_path, "words: {kind: distinct_1}\nlength: {kind: length}")
    assert list(asked_for(["distinct_2", path])) == ["distinct_2", "words", "length"]
    with pytest.raises(OptionError, match="two scorers `length`"):
        asked_for([path, "length"])


def test_what_is_neither_a_file_nor_a_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        asked_for(["lenght"])
    assert caught.value.hint == "did you mean `length`?"
    with pytest.raises(SpecError, match="no such file"):
        asked_for([str(tmp_path / "missing.yaml")])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{kind: log_likelihood, formula: base}", "is a file of results, and has no specification"),
        ("{kind: log_likelihood, formula: base, spec: ./gone.yaml}", "gone.yaml: no such file"),
        ("{kind: reward, model: m, template: '{prompt}'}", "has no {text}"),
        ("{kind: python, function: 'not_there_at_all:f'}", "can't import"),
    ],
)
def test_a_scorer_that_cannot_be_made_is_told_by_its_name(tmp_path: Path, text: str, problem: str) -> None:
    asked = asked_for([written(tmp_path, f"mine: {text}")])
    results = write_rows(tmp_path / "out", grid(1, [0])) / "results.jsonl"
    with pytest.raises(ArithError, match="scorer `mine`: ") as caught:
        scorer_of("mine", asked["mine"], Task(results, read_results(results)))
    assert problem in caught.value.message
