"""`arith explain`: a text token by token, in the terminal and in files."""

import json
from pathlib import Path

import pytest

from arith import Engine
from tests.cli.conftest import Arith, Spec, refused

TEXT = " is a\nnumber"


def two(spec: Spec) -> Path:
    return spec("base + w*other", base={}, other={"template": "Q: {prompt}"}, params={"w": 0.5})


def test_a_given_text_is_explained_as_by_the_engine(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, out, page = two(spec), tmp_path / "x.json", tmp_path / "x.html"
    words = ["explain", path, "--prompt", "one", "--text", TEXT, "--top", "3", "--param", "w=0.7"]
    result = arith(*words, "--json", out, "--html", page)
    assert result.exit_code == 0, result.stderr
    assert "is a⏎" in result.stdout and "w = 0.7" in result.stdout and "other" in result.stdout
    assert f"written: {page}" in result.stderr
    expected = Engine.load(path).explain("one", TEXT, top=3, params={"w": 0.7}).as_data()
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["text"] == TEXT and found["params"] == {"w": 0.7}
    for mine, theirs in zip(found["tokens"], expected["tokens"], strict=True):
        assert mine["chosen"]["contributions"] == pytest.approx(theirs["chosen"]["contributions"], abs=1e-4)
        assert mine["kl"] == pytest.approx(theirs["kl"], abs=1e-4)
        assert len(mine["alternatives"]) == 3
    content = page.read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>") and "base + w*other" in content


def test_without_a_text_the_formula_writes_one(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, out = two(spec), tmp_path / "x.json"
    flags = ["--max-new-tokens", "5", "--seed", "7"]
    assert arith("explain", path, "--prompt", "one", *flags, "--json", out, "--by", "other").exit_code == 0
    [written] = Engine.load(path).generate("one", max_new_tokens=5, seed=7)
    tokens = json.loads(out.read_text(encoding="utf-8"))["tokens"]
    assert [token["chosen"]["token_id"] for token in tokens] == written.token_ids


def test_several_samples_in_the_specification_are_one_here(arith: Arith, spec: Spec) -> None:
    path = spec(sampling={"max_new_tokens": 4, "num_return_sequences": 3})
    result = arith("explain", path, "--prompt", "one", "--base", "base")
    assert result.exit_code == 0 and "4 tokens" in result.stdout


def test_what_can_not_be_explained_is_refused_before_anything_loads(
    arith: Arith, spec: Spec, tmp_path: Path
) -> None:
    path = two(spec)
    there = tmp_path / "there.json"
    there.write_text("mine")
    for words, message in (
        (["--text", "a", "--seed", "3"], "--seed is about writing"),
        (["--num-return-sequences", "2"], "one text is explained at a time"),
        (["--base", "bse"], "did you mean `base`?"),
        (["--by", "othr"], "did you mean `other`?"),
        (["--top", "0"], "a whole number from 1 to 270"),
        (["--text", "a", "--top", "999"], "top is 999"),
        (["--text", ""], "the text is empty"),
        (["--html", str(tmp_path / "a.x"), "--json", str(tmp_path / "a.x")], "--html and --json are both"),
        (["--json", str(there)], "exists already"),
        (["--html", str(tmp_path / "none" / "x.html")], "doesn't exist"),
        (["--html", str(path)], "is read by this command"),
        (["--text", "\udc80"], "stands for no character"),
    ):
        result = arith("explain", path, "--prompt", "one", *words)
        refused(result, message)
        assert "loading the models" not in result.stderr
    assert there.read_text() == "mine"
    assert arith("explain", path, "--prompt", "one", "--json", there, "--overwrite").exit_code == 0
    assert json.loads(there.read_text(encoding="utf-8"))["prompt"] == "one"
