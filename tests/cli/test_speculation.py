"""Drafts on the command line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Arith, Spec, Sweep, refused


def texts(arith: Arith, path: Path, *flags: str) -> tuple[list[str], str]:
    result = arith("generate", path, "--prompts", path.parent / "p.txt", *flags)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [row["text"] for row in sorted(rows, key=lambda row: row["prompt"])], result.stderr


def test_a_draft_is_named_on_the_command_line_and_changes_no_text(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama_other: str
) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\n")
    path = spec("base + 0.3*other", base={}, other={"model": tiny_llama_other})
    expected, said = texts(arith, path)
    assert "drafted" not in said
    for draft in ("base", "other", "2*base", "prompt_lookup"):
        found, said = texts(arith, path, "--speculate", draft, "--draft-tokens", "2")
        assert found == expected
        assert ("tokens drafted" in said) or draft == "prompt_lookup"
    assert texts(arith, path, "--speculate", "base", "--draft-tokens", "auto")[0] == expected


def test_what_is_superseded_drafts_unless_it_is_told_not_to(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama_other: str
) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\n")
    path = spec("supersede(other, base)", base={}, other={"model": tiny_llama_other})
    expected, said = texts(arith, path)
    assert "tokens drafted" in said
    for flags, drafts in ((["--speculate", "false"], False), (["--draft-tokens", "2"], True)):
        found, said = texts(arith, path, *flags)
        assert found == expected and ("tokens drafted" in said) == drafts


def test_a_sweep_goes_on_with_another_draft(arith: Arith, swept: Sweep, tmp_path: Path) -> None:
    """A draft changes no text, so it makes no other sweep."""
    words, plain, drafted = swept(), tmp_path / "plain", tmp_path / "drafted"
    assert arith(*words, "--out", plain).exit_code == 0
    result = arith(*words, "--out", drafted, "--speculate", "base", "--draft-tokens", "2")
    assert result.exit_code == 0 and "tokens drafted" in result.stderr, result.stderr
    written = [(folder / "results.jsonl").read_text().splitlines() for folder in (plain, drafted)]
    one, other = (
        sorted((str(row["point"]), row["prompt"], row["text"]) for row in map(json.loads, rows))
        for rows in written
    )
    assert one == other
    result = arith(*words, "--out", drafted, "--samples", "2", "--speculate", "false")
    assert result.exit_code == 0 and "tokens drafted" not in result.stderr, result.stderr
    assert len((drafted / "results.jsonl").read_text().splitlines()) == 2 * len(one)


def test_a_draft_is_measured(arith: Arith, spec: Spec, tiny_llama_other: str) -> None:
    path = spec("base + 0.3*other", base={}, other={"model": tiny_llama_other})
    flags = ("--tokens", "8", "--repeats", "1", "--rows", "1", "--speculate", "base", "--draft-tokens", "2")
    result = arith("bench", path, *flags)
    assert result.exit_code == 0 and "forwards a token" in result.stdout, result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--speculate", ""], ["--speculate names no draft"]),
        (["--speculate", "bose"], ["did you mean `base`?"]),
        (["--speculate", "base *"], ["ends after"]),
        (["--speculate", "base", "--draft-tokens", "0"], ["--draft-tokens 0", "whole number"]),
        (["--speculate", "base", "--draft-tokens", "x"], ["--draft-tokens x", "whole number"]),
        (["--draft-tokens", "3"], ["--draft-tokens is about a draft"]),
        (["--speculate", "false", "--draft-tokens", "3"], ["--speculate false drafts nothing"]),
    ],
)
def test_a_wrong_draft_is_refused(arith: Arith, spec: Spec, flags: list[str], words: list[str]) -> None:
    refused(arith("generate", spec(), "--prompt", "a", *flags), *words)
    refused(arith("bench", spec(), *flags), *words)
    refused(arith("check", spec(), *flags), *words)


def test_a_check_tells_the_lanes_of_a_step_from_those_of_drafts(
    arith: Arith, spec: Spec, tiny_llama_other: str
) -> None:
    path = spec("base", base={}, other={"model": tiny_llama_other}, told={"template": "Q: {prompt}"})
    step, own, beside = ("one forward a step: 1 lane a row (base)", "drafts: 1 lane a row (other)", "(told)")
    said = arith("check", path).stdout
    assert step in said and "drafts" not in said and "not used by the formula: other" in said
    said = arith("check", path, "--speculate", "other").stdout
    assert step in said and own in said and "not used by the formula: told" in said
    said = arith("check", path, "--speculate", "told + 0.1*base").stdout
    assert step in said and f"drafts: 1 lane a row {beside}" in said
    superseding = spec("supersede(other, base)", base={}, other={"model": tiny_llama_other})
    said = arith("check", superseding).stdout
    assert step in said and own in said
    said = arith("check", superseding, "--speculate", "false").stdout
    assert step in said and "backbone 2" not in said


def test_what_does_not_draft_need_not_be_there(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama_other: str
) -> None:
    path = spec("supersede(w*other, base)", base={}, other={"model": tiny_llama_other})
    elsewhere = ("--model", f"other={tmp_path / 'elsewhere'}")
    call = ("generate", path, "--prompt", "a", "--max-new-tokens", "3")
    refused(arith(*call, *elsewhere), "there is no model folder at")
    refused(arith(*call), "speculate: draft: the parameter `w` has no value")
    result = arith(*call, *elsewhere, "--speculate", "false")
    assert result.exit_code == 0 and "backbone 2" not in result.stderr, result.stderr
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    result = arith("score", path, "--prompts", tmp_path / "pairs.jsonl", *elsewhere)
    assert result.exit_code == 0 and "backbone 2" not in result.stderr, result.stderr
    assert json.loads(result.stdout)["logprobs"].keys() == {"formula", "base"}
    result = arith("explain", path, "--prompt", "a", "--text", "b", *elsewhere)
    assert result.exit_code == 0, result.stderr
    refused(arith("check", path, *elsewhere), "there is no model folder at")
    result = arith("check", path, *elsewhere, "--speculate", "false")
    assert result.exit_code == 0 and "backbone 2" not in result.stdout, result.stderr


def test_a_check_refuses_what_a_draft_lacks(arith: Arith, spec: Spec, tiny_classifier: str) -> None:
    judge = {"model": tiny_classifier, "kind": "classifier", "label": 0}
    path = spec("base", base={}, other={"template": "Q: {prompt}"}, judge=judge)
    result = arith("check", path, "--speculate", "base + guide(judge, on=base, k=3)")
    assert result.exit_code == 0 and "guide judge: " in result.stdout, result.stderr
    refused(arith("check", path, "--speculate", "base + layer(other, 99)"), "`layer(other, 99)`", "2 layers")
