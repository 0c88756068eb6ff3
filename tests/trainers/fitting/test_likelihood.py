"""Log-probabilities and gradients of kept logits: against the engine's scores, and finite differences."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arith import LLM, Engine, PlanError
from arith.runtime import kept_logits
from arith.runtime.kept_logits import KeptLogits
from arith.runtime.scoring import RowLogits
from tests.trainers.fitting.conftest import TEXTS, likelihood_of

Build = Callable[..., Engine]

BELL = torch.tensor([7])  # a token of no text
LONG = [*TEXTS, {"prompt": "on", "completion": "the rain " * 20}]  # more tokens than are evaluated together
FORMULAS: list[tuple[str, dict[str, float]]] = [
    ("base + a*arm - b*other", {"a": 0.0, "b": 0.4}),
    ("mix(base, arm, sigmoid(a)) + b*other", {"a": 0.3, "b": -0.2}),
    ("within(base + a*arm, top_k(base, 269)) + b*arm", {"a": 0.0, "b": 0.0}),
    ("where(t < 3, base + a*arm, temper(arm, 1 + b*t))", {"a": 0.6, "b": 0.1}),
    ("max(a*base, arm) + b*other", {"a": 1.3, "b": 0.2}),
    ("base + a*layer(base, 1) + b*arm", {"a": -0.3, "b": 0.0}),
    ("base + log(sigmoid((a*log_likelihood(arm) + arm - b*other)/(t + 1)))", {"a": 0.5, "b": 0.1}),
    ("base + a*guide(rude, on=arm, k=5) + b*strength(rude)*arm", {"a": 0.0, "b": 0.5}),
    ("where(matching('[a-z ]*'), base + a*arm, arm) + b*other", {"a": 0.4, "b": 0.1}),
]


@pytest.mark.parametrize(("text", "values"), FORMULAS, ids=[text for text, _ in FORMULAS])
def test_totals_are_the_engines_and_gradients_finite_differences(
    engine: Build, text: str, values: dict[str, float]
) -> None:
    made = engine(text, **values)
    texts = [row["prompt"] for row in LONG], [row["completion"] for row in LONG]
    nonzero = {name: value or 0.01 for name, value in values.items()}  # at 0 the engine leaves operands out
    expected = made.score(*texts, params=nonzero, end=True)
    likelihood = likelihood_of(made, ["a", "b"], values, LONG)
    totals, _ = likelihood.totals(torch.tensor([nonzero["a"], nonzero["b"]]).double())
    assert likelihood.counts.tolist() == [len(one.token_ids) for one in expected]
    assert totals.tolist() == pytest.approx([one.total for one in expected], abs=1e-4)
    at = torch.tensor([values["a"], values["b"]], dtype=torch.float64)
    _, gradients = likelihood.totals(at)
    for number in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[number] = 1e-5
        above, below = (likelihood.totals(at + sign * step)[0] for sign in (1, -1))
        assert gradients[:, number].tolist() == pytest.approx(((above - below) / 2e-5).tolist(), abs=1e-4)


def test_operands_and_classifiers_run_once(engine: Build) -> None:
    made = engine("base + a*arm + b*guide(rude, on=base, k=4)", a=0.0, b=0.0)
    likelihood = likelihood_of(made, ["a", "b"], {"a": 0.0, "b": 0.0}, TEXTS)
    likelihood.totals(torch.tensor([0.1, 0.2]))
    guide = made.runner.models.fusion.facts.guides["rude"]
    before = made.stats.forwards, guide.stats.texts_run
    assert min(before) > 0
    likelihood.totals(torch.tensor([-0.4, 0.7]))
    assert (made.stats.forwards, guide.stats.texts_run) == before


def test_logits_in_a_temporary_file_are_those_in_memory(
    engine: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at = torch.tensor([0.4])
    made = engine("base + a*other", a=0.4)
    expected = likelihood_of(made, ["a"], {"a": 0.0}, TEXTS).totals(at)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(kept_logits, "free_memory", lambda device: 1000)
    mapped: list[Any] = []
    monkeypatch.setattr(torch, "from_file", recording(torch.from_file, mapped))
    found = likelihood_of(made, ["a"], {"a": 0.0}, TEXTS).totals(at)
    assert len(mapped) == 2, "one file for each operand"
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert list(tmp_path.iterdir()) == [], "the files have no names any more"


def test_logits_that_memory_ran_out_on_are_kept_at_the_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptLogits(2)
    logits: RowLogits = {(LLM(name), None): torch.rand(1, 5) for name in "ab"}
    kept.keep(logits)
    copy, calls = torch.Tensor.copy_, list[int]()

    def failing(self: torch.Tensor, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("the test's memory is full")
        return copy(self, *arguments)

    monkeypatch.setattr(torch.Tensor, "copy_", failing)
    with pytest.raises(torch.OutOfMemoryError):
        kept.keep(logits)
    found = kept.keep(logits)
    assert all(torch.equal(found[leaf], values) for leaf, values in logits.items())


def recording(call: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def recorded(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return call(*args, **options)

    return recorded


def test_logits_that_fit_nowhere_are_refused_with_the_figures(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine("base + a*other", a=0.4)
    row = {"prompt": "on", "completion": "the rain " * 80}
    tokens = 20 * len(made.score("on", row["completion"], end=True)[0].token_ids)
    made.stats.reset()
    usage = shutil.disk_usage(tempfile.gettempdir())
    monkeypatch.setattr(kept_logits, "free_memory", lambda device: 11 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=12 * 2**20))
    needed = tokens * 270 * 8 * 2 / 2**20
    with pytest.raises(PlanError, match=rf"{tokens:,} positions take {needed:.0f} MiB.* 11 MiB.* 12 MiB"):
        likelihood_of(made, ["a"], {"a": 0.0}, [row] * 20)
    assert made.stats.tokens_useful < 2.2 * tokens / 20, "one text alone ran"


def test_gradients_are_finite_where_an_operand_excludes_tokens(
    engine: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine("base - a*other", a=0.5)
    forced = made.runner.teacher_forced

    def excluding(rows: Any, measure: Callable[..., Any], *, behind: bool) -> list[Any]:
        def measured(row: Any, logits: Any) -> Any:
            without = {leaf: part.index_fill(-1, BELL, -torch.inf) for leaf, part in logits.items()}
            return measure(row, without)

        return forced(rows, measured, behind=behind)

    monkeypatch.setattr(made.runner, "teacher_forced", excluding)
    likelihood = likelihood_of(made, ["a"], {"a": 0.5}, TEXTS)
    for a in (0.0, 0.5):
        at = torch.tensor([a], dtype=torch.float64)
        _, gradients = likelihood.totals(at)
        above, below = (likelihood.totals(at + step)[0] for step in (1e-5, -1e-5))
        assert gradients[:, 0].tolist() == pytest.approx(((above - below) / 2e-5).tolist(), abs=1e-3)
