"""Guides, early exits and tokens on the command line: what runs, and what is refused with one message."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Arith, Spec, refused
from tests.sequence_models import save_bert_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert_classifier(tmp_path_factory.mktemp("bert"))


def guided(classifier: str, label: object = "formal") -> dict[str, dict[str, object]]:
    return {"base": {}, "f": {"kind": "classifier", "model": classifier, "label": label}}


def test_a_guided_formula_writes_rows(arith: Arith, spec: Spec, tmp_path: Path, classifier: str) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("one\ntwo\n")
    path = spec("base + 2*guide(f, on=base, k=5) - layer(base, 1)", **guided(classifier))
    result = arith("generate", path, "--prompts", prompts)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 2 and all(set(row["logprobs"]) == {"formula", "base"} for row in rows)
    assert f"guide f: {classifier}" in result.stderr


def test_check_shows_guides_and_what_is_asked_of_the_run(arith: Arith, spec: Spec, classifier: str) -> None:
    result = arith("check", spec("base + 2*guide(f, on=base, k=5) - layer(base, 1)", **guided(classifier)))
    assert result.exit_code == 0, result.stderr
    for words in ("guide(on=%1, classifier=f, k=5)", "layer(operand=base, k=1)", f"guide f: {classifier}"):
        assert words in result.stdout


@pytest.mark.parametrize("command", ["check", "generate"])
@pytest.mark.parametrize(
    ("formula", "label", "words"),
    [
        ("base + guide(f, k=5)", "formal", ["`guide` needs the argument `on`", "1 | base + guide(f, k=5)"]),
        ("base + guide(f, on=top_k(base, 3), k=5)", "formal", ["`k` of `guide` is 5", "has 3 tokens"]),
        ("base + guide(f, on=base, k=base)", "formal", ["`k` of `guide` has to be a scalar", "is a dist"]),
        ("base + guide(f, on=base, k=5)", "polite", ["no label `polite`", "formal, casual, rude"]),
        ("base + guide(f, on=base, k=5)", 7, ["no label 7", "formal, casual, rude"]),
        ("base + f", "formal", ["cannot add a dist and a classifier"]),
        ("base - layer(base, 3) + strength(f)", "formal", ["`layer(base, 3)`", "has 2 layers"]),
        ("top_k(base, base) + strength(f)", "formal", ["`k` of `top_k` has to be a scalar"]),
    ],
)
def test_what_can_not_guide_is_refused(
    arith: Arith, spec: Spec, classifier: str, command: str, formula: str, label: object, words: list[str]
) -> None:
    extra = ["--prompt", "a"] if command == "generate" else []
    result = arith(command, spec(formula, **guided(classifier, label)), *extra)
    refused(result, *words)


def test_more_candidates_than_tokens_are_refused(arith: Arith, spec: Spec, classifier: str) -> None:
    path = spec("base + guide(f, on=base, k=9999)", **guided(classifier))
    result = arith("generate", path, "--prompt", "a")
    assert result.exit_code == 2 and "`k` of `guide` is 9999, and the vocabulary has" in result.stderr
    assert "1 | base + guide(f, on=base, k=9999)" in result.stderr


def test_a_token_that_the_vocabulary_lacks_is_refused(arith: Arith, spec: Spec) -> None:
    result = arith("generate", spec('base - 3*tokens("nonsense")'), "--prompt", "a")
    assert result.exit_code == 2 and 'no token of the vocabulary is "nonsense"' in result.stderr
    assert '1 | base - 3*tokens("nonsense")' in result.stderr
