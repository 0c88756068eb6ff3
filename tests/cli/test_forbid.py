"""Guards on the command line and in specifications."""

import json
import re
from pathlib import Path

import pytest

from arith import LLM, Engine, Formula, SpecError
from arith.runtime.options import Sampling
from arith.spec import Spec as Specification
from tests.cli.conftest import Arith, Spec, refused


def test_what_is_forbidden_is_named_on_the_command_line(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\n")
    path = spec(sampling={"max_new_tokens": 20, "forbid": ["a word of its own"]})
    result = arith("generate", path, "--prompts", tmp_path / "p.txt", "--forbid", "/[a-m]/", "--forbid", "z")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 3 and not any(re.search("[a-m]", row["text"], re.IGNORECASE) for row in rows)
    assert re.search(r"[0-9]+ rewinds? from forbidden text, [0-9]+ tokens? taken back$", result.stderr, re.M)
    free = arith("generate", path, "--prompts", tmp_path / "p.txt")
    assert "taken back" not in free.stderr
    out = tmp_path / "out.jsonl"
    call = ("generate", path, "--prompts", tmp_path / "p.txt", "--out", out, "--resume", "--forbid")
    assert arith(*call, "z").exit_code == 0
    refused(arith(*call, "y"), "another formula, other operands or weights or other options")


def test_rows_that_found_no_way_on_are_told(arith: Arith, spec: Spec) -> None:
    path = spec(sampling={"max_new_tokens": 2})
    result = arith("generate", path, "--prompt", "abc", "--forbid", "/[^é]/", "--num-return-sequences", "2")
    ended = [json.loads(line)["finish_reason"] for line in result.stdout.splitlines()].count("forbidden")
    words = "1 row" if ended == 1 else f"{ended} rows"
    assert ended and f"taken back; {words} ended there, with no way on" in result.stderr


def test_one_row_is_shown_as_it_stays(arith: Arith, spec: Spec) -> None:
    path = spec(sampling={"max_new_tokens": 20, "seed": 3})
    flags = ["--prompt", "abc", "--forbid", "/[a-z]/"]
    result = arith("generate", path, *flags)
    engine = Engine.load(path)
    assert result.stdout == engine.generate("abc", forbid="/[a-z]/")[0].text + "\n"
    assert engine.stats.rewinds > 0


@pytest.mark.parametrize(
    ("entry", "words"),
    [("/(a/", ["forbid", "is no regular expression"]), (" ", ["forbid", "is empty"]), ("/a?/", ["no text"])],
)
def test_what_can_not_be_forbidden_is_refused(entry: str, words: list[str], arith: Arith, spec: Spec) -> None:
    refused(arith("generate", spec(), "--prompt", "a", "--forbid", entry), *words)
    path = spec(sampling={"forbid": ["fine", entry]})
    place = next(n for n, line in enumerate(path.read_text().splitlines(), 1) if json.dumps(entry) in line)
    refused(arith("check", path), f"{path}:{place}: `sampling.forbid.1` ", *words[1:])


def test_guards_are_saved_with_an_engine_unless_they_are_functions() -> None:
    formula = Formula("a", a=LLM("org/model"))
    forbid = ["word", "/a+b/", re.compile("^x.y", re.MULTILINE | re.DOTALL), re.compile("z")]
    written = Specification.of(formula, Sampling.of({"forbid": forbid})).dump()
    assert json.loads(json.dumps(Sampling.of({"forbid": forbid}).model_dump(mode="json")))["forbid"] == [
        "word", "/a+b/", "/(?ms)^x.y/", "/z/",
    ]  # fmt: skip
    assert "- /(?ms)^x.y/" in written
    with pytest.raises(SpecError, match=r"sampling\.forbid: a function can't be written"):
        Specification.of(formula, Sampling.of({"forbid": lambda text, ended: None})).dump()
