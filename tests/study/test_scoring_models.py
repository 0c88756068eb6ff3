"""Scores by models: against plain forwards of the same models, one text at a time."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from arith.cli.app import app
from arith.errors import ArithError, OperandError, PromptError, SpecError
from arith.study.results import ResultRow, read_results
from arith.study.scoring.scorers import Task, asked_for, scorer_of
from tests.runtime.guide_reference import PlainSequenceModel
from tests.study.written_rows import sweep_row, write_rows

PROMPTS = ("Hello there", "one two three", "Hello there")
Scores = Callable[..., list[float | None]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: str, tiny_llama_other: str) -> Path:
    """A sweep over two tiny models, two samples of each prompt at three points."""
    home = tmp_path_factory.mktemp("swept")
    spec = {
        "formula": "base + h*arm",
        "defaults": {"template": "{prompt}"},
        "operands": {"base": {"model": tiny_llama}, "arm": {"model": tiny_llama_other}},
        "params": {"k": 0.5},
        "sweep": {"h": [0, 0.5, 1.5]},
        "sampling": {"max_new_tokens": 6},
    }
    (home / "spec.yaml").write_text(json.dumps(spec))
    (home / "prompts.txt").write_text("\n".join(PROMPTS))
    words = [
        "sweep",
        home / "spec.yaml",
        "--prompts",
        home / "prompts.txt",
        "--out",
        home / "out",
        "--samples",
        2,
    ]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return home / "out"


@pytest.fixture
def scores(folder: Path, tmp_path: Path) -> Scores:
    """`scores(rows, kind=…, …)`: what a scorer with these keys gives the rows, checked beforehand."""

    def run(rows: list[ResultRow], *, results: Path = folder, **keys: Any) -> list[float | None]:
        path = tmp_path / "scorers.yaml"
        path.write_text(json.dumps({"mine": keys}))
        scorer = scorer_of("mine", asked_for([str(path)])["mine"], Task(results, rows, "cpu"))
        scorer.check(rows)
        found = dict(scorer.score(rows))
        assert sorted(found) == list(range(len(rows)))
        return [found[place].score for place in range(len(rows))]

    return run


def recorded(folder: Path, name: str) -> list[float]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line)["logprobs"][name] for line in lines]


def plain_log_likelihood(model: str, row: ResultRow) -> float:
    """By one forward of plain transformers over prompt and text."""
    import transformers

    builder: Any = transformers.AutoModelForCausalLM
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model)
    prompt = tokenizer(row.prompt).input_ids
    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *row.token_ids]])
        logits = builder.from_pretrained(model, dtype=torch.float32).eval()(input_ids=ids).logits[0]
    log_probs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(log_probs.gather(1, torch.tensor([row.token_ids]).T).sum())


def test_the_likelihood_under_an_operand_is_that_of_a_plain_forward(
    folder: Path, scores: Scores, tiny_llama_other: str
) -> None:
    rows = read_results(folder)
    found = scores(rows, kind="log_likelihood", formula="arm")
    expected = [plain_log_likelihood(tiny_llama_other, row) for row in rows]
    assert found == pytest.approx(expected, abs=1e-3)
    each = scores(rows, kind="log_likelihood", formula="arm", per_token=True)
    assert each == pytest.approx(
        [total / row.tokens for total, row in zip(expected, rows, strict=True)], abs=1e-3
    )


def test_under_its_own_formula_a_text_is_as_likely_as_when_it_was_written(
    folder: Path, scores: Scores
) -> None:
    found = scores(read_results(folder), kind="log_likelihood", formula="base + h*arm")
    assert found == pytest.approx(recorded(folder, "formula"), abs=1e-3)


def test_a_parameter_of_the_scorer_comes_before_the_point_and_that_before_the_specification(
    folder: Path, scores: Scores
) -> None:
    rows = read_results(folder)
    zero = scores(rows, kind="log_likelihood", formula="base + h*arm", params={"h": 0})
    assert zero == pytest.approx(recorded(folder, "base"), abs=1e-3)
    of_spec = scores(rows, kind="log_likelihood", formula="base + k*arm")
    half = [row for row in rows if row.point["h"] == 0.5]
    assert [of_spec[rows.index(row)] for row in half] == pytest.approx(
        scores(half, kind="log_likelihood", formula="base + h*arm"), abs=1e-3
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"formula": "bass"}, "bass"),
        ({"formula": "base +"}, "formula: "),
        ({"formula": "base + q*arm"}, "the parameter `q` of `base \\+ q\\*arm` has no value"),
        ({"formula": "base", "params": {"h": 1}}, "has no parameter `h`"),
        ({"formula": "top_k(base, 1)"}, "gives the text the probability 0"),
    ],
)
def test_a_formula_without_a_finite_score_is_refused(
    folder: Path, scores: Scores, keys: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ArithError, match=problem):
        scores(read_results(folder), kind="log_likelihood", **keys)


def test_tokens_of_another_tokenizer_are_refused(
    folder: Path, scores: Scores, tmp_path: Path, tiny_other_tokenizer: str
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps({"formula": "x", "operands": {"x": {"model": tiny_other_tokenizer}}}))
    rows = read_results(write_rows(tmp_path / "out", [sweep_row(text="aab", token_ids=[97, 97, 98])]))
    with pytest.raises(SpecError, match="its tokens aren't those of `x`"):
        scores(rows, kind="log_likelihood", formula="x", spec="./other.yaml")


@pytest.mark.parametrize(("prompt", "tokens"), [("x" * 600, [97]), ("x" * 300, [97] * 300)])
def test_a_row_too_long_for_a_model_is_named_before_any_is_scored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, tokens: list[int]
) -> None:
    def score(*_: object) -> None:
        raise AssertionError("a row was scored")

    monkeypatch.setattr("arith.study.scoring.log_likelihood.LogLikelihood.score", score)
    rows = [
        sweep_row(text="a", token_ids=[97]),
        sweep_row(1, prompt=prompt, text="a" * len(tokens), token_ids=tokens),
    ]
    results = write_rows(tmp_path / "out", rows)
    (results / "spec.yaml").write_bytes((folder / "spec.yaml").read_bytes())
    (tmp_path / "scorers.yaml").write_text("fluency: {kind: log_likelihood, formula: base}")
    done = CliRunner().invoke(app, ["score-sweep", str(results), "--with", str(tmp_path / "scorers.yaml")])
    assert done.exit_code == 2 and "results.jsonl:2: the prompt has" in done.stderr
    assert "its context window is 512" in done.stderr


def test_rewards_are_those_of_a_plain_forward_over_prompt_and_answer(
    folder: Path, scores: Scores, tiny_reward: str
) -> None:
    rows = read_results(folder)
    plain = PlainSequenceModel(tiny_reward)
    found = scores(rows, kind="reward", model=tiny_reward, template="Q: {prompt} A: {text}")
    assert found == pytest.approx(
        [float(plain.of_text(f"Q: {row.prompt} A: {row.text}")) for row in rows], abs=1e-3
    )
    chats = scores(rows, kind="reward", model=tiny_reward)
    for row, value in zip(rows, chats, strict=True):
        text = plain.tokenizer(row.text, add_special_tokens=False).input_ids
        assert value == pytest.approx(float(plain.of_tokens([*plain.chat(str(row.prompt)), *text])), abs=1e-3)


def test_a_classifier_scores_by_the_log_probability_of_its_label(
    folder: Path, scores: Scores, tiny_classifier: str
) -> None:
    rows = read_results(folder)
    plain = PlainSequenceModel(tiny_classifier)
    by_label = {}
    for number, label in enumerate(("formal", "casual", "rude")):
        found = by_label[label] = scores(rows, kind="classifier", model=tiny_classifier, label=label)
        expected = [float(plain.of_text(row.text).log_softmax(-1)[number]) for row in rows]
        assert found == pytest.approx(expected, abs=1e-3)
    for values in zip(*by_label.values(), strict=True):
        assert sum(math.exp(value) for value in values if value is not None) == pytest.approx(1)


def test_what_a_model_cannot_read_is_refused_before_its_weights_are_loaded(
    folder: Path, scores: Scores, tiny_reward: str, tiny_classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("arith.runtime.guides.load.load_sequence_model", load)
    rows = read_results(folder)
    with pytest.raises(PromptError, match=r"results.jsonl:1: the template uses \{topic\}"):
        scores(rows, kind="reward", model=tiny_reward, template="{topic} {text}")
    with pytest.raises(OperandError, match="has no label `rood`"):
        scores(rows, kind="classifier", model=tiny_classifier, label="rood")
    with pytest.raises(OperandError, match="has 3 outputs"):
        scores(rows, kind="reward", model=tiny_classifier)


def test_a_model_that_was_replaced_is_another_scorer(
    folder: Path, tmp_path: Path, tiny_classifier: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_classifier, model)
    path = tmp_path / "scorers.yaml"
    kinds = {
        "likelihood": {"kind": "log_likelihood", "formula": "base", "spec": "spec.json"},
        "said": {"kind": "classifier", "model": str(model), "label": 0},
    }
    path.write_text(json.dumps(kinds))
    task = Task(folder, [], "cpu")

    def settings() -> list[Mapping[str, Any]]:
        return [scorer_of(name, asked, task).settings for name, asked in asked_for([str(path)]).items()]

    (tmp_path / "spec.json").write_text(
        json.dumps({"formula": "base", "operands": {"base": {"model": str(model)}}})
    )
    before = settings()
    assert settings() == before
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config + "\n")
    assert all(now != then for now, then in zip(settings(), before, strict=True))
