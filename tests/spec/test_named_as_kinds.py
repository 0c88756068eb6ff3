"""Names of one's own that are also words of the format: messages tell the whole key all the same."""

from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.spec import Spec

OPERANDS = "operands: {a: {model: x}, llm: {model: y}}"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("operands: {llm: {model: x, system: 3}}", "`operands.llm.system` must be text"),
        ("operands: {llm: {model: x, modell: y}}", "unknown key `operands.llm.modell`"),
        (
            "operands: {classifier: {kind: classifier, model: x}}",
            "the key `operands.classifier.label` is missing",
        ),
        ("operands: {a: {model: x, llm: 3}}", "unknown key `operands.a.llm`"),
        (OPERANDS + "\nparams: {llm: [1]}", "`params.llm` must be a number"),
        (OPERANDS + "\nsweep: {axis: [], link: [1]}", "`sweep.axis`"),
        (OPERANDS + "\nsweep: {w: [1, [2]]}", "`sweep.w.1` must be a number"),
    ],
)
def test_a_key_that_is_also_a_kind_is_told_whole(tmp_path: Path, written: str, told: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"formula: a\n{written}\n")
    with pytest.raises(SpecError) as refused:
        Spec.load(path)
    assert told in str(refused.value), refused.value
