"""What an engine saves beside its formula: drafts, `compile`, and the sweep that it was loaded with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arith import LLM, Engine, Formula
from arith.spec import Spec


@pytest.mark.parametrize(
    ("speculate", "written"),
    [
        ({"draft": "arm", "tokens": 3}, {"draft": "arm", "tokens": 3}),
        ({"draft": "0.3*tiny"}, {"draft": "0.3*tiny", "tokens": "auto"}),
        ({"lazy": "arm"}, {"draft": "base + w*uniform()", "tokens": "auto"}),
        ("prompt_lookup", {"draft": "prompt_lookup", "tokens": "auto"}),
        (None, None),
    ],
)
def test_a_saved_engine_drafts_and_compiles_as_before(
    tmp_path: Path, tiny_llama: str, tiny_llama_other: str, speculate: Any, written: object
) -> None:
    if speculate == {"draft": "0.3*tiny"}:  # of an operand that the formula doesn't have
        speculate = {"draft": Formula("0.3*tiny", tiny=LLM(tiny_llama_other, template="raw"))}
    base, arm = LLM(tiny_llama, template="raw"), LLM(tiny_llama)
    engine = Engine(Formula("base + w*arm", base=base, arm=arm, w=0.5), speculate=speculate, compile="off")
    engine.save(tmp_path)
    spec, again = Spec.load(tmp_path), Engine.load(tmp_path)
    assert (spec.speculate and spec.speculate.model_dump(exclude={"lazy"})) == written
    assert spec.compile == "off" and again.runner.models.declared == engine.runner.models.declared
    mine, theirs = engine.runner.drafting, again.runner.drafting
    assert (mine and (str(mine.formula), mine.tokens)) == (theirs and (str(theirs.formula), theirs.tokens))


@pytest.mark.parametrize("speculate", [None, False, {"tokens": 3}])
def test_a_saved_engine_drafts_what_is_superseded_or_does_not(
    tmp_path: Path, tiny_llama: str, tiny_llama_other: str, speculate: Any
) -> None:
    small, large = LLM(tiny_llama_other, template="raw"), LLM(tiny_llama, template="raw")
    engine = Engine(Formula("supersede(small, large)", small=small, large=large), speculate=speculate)
    engine.save(tmp_path)
    mine, theirs = engine.runner.drafting, Engine.load(tmp_path).runner.drafting
    assert (mine is None) == (theirs is None) == (speculate is False)
    if mine is not None and theirs is not None:
        assert (str(mine.formula), mine.tokens) == (str(theirs.formula), theirs.tokens)


def test_an_engine_that_was_loaded_is_saved_with_all_that_its_specification_says(
    tmp_path: Path, tiny_llama: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        f"operands: {{base: {{model: {tiny_llama}}}, other: {{model: {tiny_llama}, template: raw}}}}\n"
        "sweep: {formula: {a: base, b: base + h*other}, h: [0.5, 1]}\n"
        "speculate: {draft: other, tokens: 2}\ncompile: off\n"
    )
    engine = Engine.load(path)
    engine.save(tmp_path / "saved")
    saved = Spec.load(tmp_path / "saved")
    assert replace(saved, source="") == replace(Spec.load(path), source="")
    assert Engine.load(tmp_path / "saved").points == engine.points and len(engine.points) == 3
