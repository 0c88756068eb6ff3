"""Data and formulas that can't be fitted: one message each, which names the place or the parameter."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from arith import Engine, EvaluationError, FormulaError, OptionError, PromptError, SpecError
from tests.trainers.fitting.conftest import PAIRS, TEXTS, Rows
from trainers.fitting import FitError, fit
from trainers.fitting.data import read_data

Build = Callable[..., Engine]


@pytest.mark.parametrize(
    ("text", "params", "data", "kind", "words"),
    [
        ("base + other", {}, TEXTS, FitError, ["no parameters to fit"]),
        (
            "where(t < n, base, other)",
            {"n": 3},
            TEXTS,
            FormulaError,
            ["no gradient reaches `n`", "comparisons", "^"],
        ),
        ("top_p(base, q)", {"q": 1}, TEXTS, FormulaError, ["no gradient reaches `q`"]),
        ("base + 0*a*arm", {"a": 1}, TEXTS, FormulaError, ["no gradient reaches `a`"]),
        ("base + a*b*arm", {"a": 0, "b": 0}, TEXTS, FitError, ["`a` makes no difference", "a=0, b=0"]),
        (
            "within(base + a*arm, top_k(base, 1))",
            {"a": 0.2},
            TEXTS,
            EvaluationError,
            ["probability 0", "row 1"],
        ),
        ("base + sqrt(a)*arm", {"a": -1}, TEXTS, EvaluationError, ["sqrt(a)", "with a=-1", "exp(a)"]),
        ("mix(base, arm, a)", {"a": 2}, TEXTS, EvaluationError, ["from 0 to 1", "with a=2"]),
    ],
)
def test_a_formula_that_can_not_be_fitted(
    engine: Build, text: str, params: dict[str, float], data: Rows, kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        fit(engine(text, **params), data)
    for word in words:
        assert word in str(caught.value)


def test_parameters_that_run_away_are_named(engine: Build) -> None:
    """The sharper an operand, the more a long text of unlikely tokens falls behind a short one."""
    data = [{**row, "rejected": "the rain in spain falls on the plain"} for row in PAIRS]
    with pytest.raises(FitError, match=r"no best value of `a`: beyond a=\d[^,]* the .*\n.*bound it"):
        fit(engine("a*base + b*other", a=0.1, b=0.0), data, names=["a"])


def test_names_that_are_no_parameters(engine: Build) -> None:
    made = engine("base + alpha*arm", alpha=0.1)
    with pytest.raises(FitError, match=r"no parameter `alhpa`\nhint: did you mean `alpha`"):
        fit(made, TEXTS, names=["alhpa"])
    with pytest.raises(FormulaError, match="no parameter `beta`"):
        fit(made, TEXTS, params={"beta": 1})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"completion": "a"}, ["row 1", "`prompt`"]),
        ({"prompt": 3, "completion": "a"}, ["row 1", "`prompt`"]),
        ({"prompt": "a", "text": "b"}, ["row 1", "`completion`", "its fields are prompt, text"]),
        ({"prompt": "a", "chosen": "b"}, ["row 1", "`rejected`"]),
        ({"prompt": "a", "chosen": "b", "rejected": None}, ["row 1", "`rejected`, text or"]),
        (
            {"prompt": "a", "completion": [{"role": "user", "content": "b"}]},
            ["row 1", "`completion`", "assistant"],
        ),
    ],
)
def test_rows_that_lack_something(row: Mapping[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_data([row])
    for word in words:
        assert word in str(caught.value)


def test_columns_of_two_objectives_need_a_choice() -> None:
    both = [{**TEXTS[0], **PAIRS[0]}]
    with pytest.raises(OptionError, match="likelihood and for preference"):
        read_data(both)
    assert [line.completion for line in read_data(both, "likelihood").lines] == [TEXTS[0]["completion"]]
    sides = read_data(both, "preference").lines
    assert [line.completion for line in sides] == [PAIRS[0]["chosen"], PAIRS[0]["rejected"]]
    assert [line.place for line in sides] == ["row 1, chosen", "row 1, rejected"]
    with pytest.raises(OptionError, match="likelihood, preference"):
        read_data(both, "accuracy")
    with pytest.raises(SpecError, match="no rows"):
        read_data([])


def test_a_line_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*TEXTS[:2], PAIRS[0]]))
    with pytest.raises(SpecError, match=r"data\.jsonl:3: needs `completion`"):
        read_data(path)


def test_templates_may_use_other_fields_and_never_the_answers() -> None:
    row: dict[str, Any] = {"prompt": "a", "chosen": "b", "rejected": "c", "tone": "kind", "id": 3}
    for line in read_data([row]).lines:
        assert line.whole == {"prompt": "a", "tone": "kind", "id": 3}


def test_answers_may_be_messages_of_the_assistant() -> None:
    asked = [{"role": "user", "content": "a"}]
    sides = {side: [{"role": "assistant", "content": f" {side} "}] for side in ("chosen", "rejected")}
    lines = read_data([{"prompt": asked, **sides}]).lines
    assert [(line.prompt, line.completion) for line in lines] == [(asked, " chosen "), (asked, " rejected ")]


def test_a_text_beyond_the_window_is_named_by_its_side(engine: Build) -> None:
    with pytest.raises(PromptError, match="row 1, rejected: the prompt has"):
        fit(engine("base + a*arm", a=0.1), [{"prompt": "a", "chosen": "b", "rejected": "c" * 600}])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TEXTS[0], "rows or the path of a file, not dict"),
        (None, "rows or the path of a file, not NoneType"),
        (b"rows", "rows or the path of a file, not bytes"),
        (["the rain", "in spain"], "row 1: must be a mapping of columns to values, not 'the rain'"),
    ],
)
def test_data_that_are_no_rows_are_refused(data: Any, words: str) -> None:
    with pytest.raises((OptionError, SpecError), match=words):
        read_data(data)


def test_what_a_caller_of_fit_may_get_wrong_is_refused(engine: Build) -> None:
    loaded = engine("base + a*arm", a=0)
    for names, words in (("a", r"a list of texts, not 'a'"), ([], "no parameter is to be fitted")):
        with pytest.raises((OptionError, FitError), match=words):
            fit(loaded, TEXTS, names=names)
    wrong: Any = loaded.formula
    with pytest.raises(OptionError, match="takes an engine or the path of a specification, not Formula"):
        fit(wrong, TEXTS)
