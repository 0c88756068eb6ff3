"""The section `sweep` of a specification: read, written again, refused with its line."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from arith import SpecError
from arith.errors import OptionError
from arith.language.operators import REGISTRY
from arith.spec import Spec

HEAD = """formula: base + h*help + s*harm
operands:
  base: {model: org/base}
  help: {model: org/help}
  harm: {model: org/harm}
"""


def load(folder: Path, text: str) -> Spec:
    path = folder / "spec.yaml"
    path.write_text(text)
    return Spec.load(path)


@pytest.mark.parametrize(
    ("section", "count"),
    [
        ("sweep: {h: [0, 1e-1, 1], s: 1 - h}", 3),
        ("sweep: {h: [0, 0.5], s: [-1, 1, 2]}", 6),
        ("sweep:\n  points:\n  - {h: 1, s: 2}\n  - {h: 2, s: 1}\n", 2),
        ("sweep: {random: {count: 5, ranges: {h: [0, 1], s: [0, 2]}, seed: 3}}", 5),
        ("sweep: {sobol: {count: 4, ranges: {h: [0, 1]}}, s: [1, 2]}", 8),
        ("sweep: {simplex: {names: [h, s], steps: 4}}", 5),
        ("params: {whole: 2}\nsweep: {h: [0, 1], s: whole - h}", 2),
        ("params: {s: 0.5}\nsweep: {h: [0, 1]}", 2),
        ("sweep: {formula: {sum: base + h*help, cut: 'min(base, s*help)'}, h: [0, 1], s: [2]}", 3),
    ],
)
def test_a_sweep_is_written_so_that_it_reads_back(tmp_path: Path, section: str, count: int) -> None:
    spec = load(tmp_path, HEAD + section)
    formula, points = spec.swept()
    assert len(points) == count
    again = load(tmp_path, spec.dump())
    assert again.sweep == spec.sweep and again.dump() == spec.dump()
    assert str(again.swept()[0]) == str(formula) and again.swept()[1] == points


def test_without_a_formula_the_first_of_the_sweep_is_the_specifications_own(tmp_path: Path) -> None:
    operands = HEAD.partition("\n")[2]
    spec = load(tmp_path, f"{operands}sweep: {{formula: {{a: base - help, b: base}}}}\n")
    assert spec.text == "base - help" and spec.unused == ("harm",)
    with pytest.raises(SpecError, match="the key `formula` is missing"):
        load(tmp_path, operands)


def test_what_links_use_is_used(tmp_path: Path) -> None:
    spec = load(tmp_path, HEAD + "params: {whole: 2, idle: 1}\nsweep: {h: [0, 1], s: whole - h}\n")
    assert spec.unused == ("idle",)


def test_values_that_points_need_can_come_later(tmp_path: Path) -> None:
    spec = load(tmp_path, HEAD + "sweep: {h: whole - k, k: [1]}\n")
    assert spec.lacking == ["s", "whole"]
    with pytest.raises(OptionError, match="`whole` has no value"):
        spec.swept()
    given = replace(spec, params={"s": 2.0, "whole": 1.5})
    assert given.lacking == []
    assert [dict(point.params) for point in given.swept()[1]] == [{"h": 0.5, "s": 2.0}]
    with pytest.raises(SpecError, match="the linked values go in a circle"):
        load(tmp_path, HEAD + "sweep: {h: k - 1, k: h, s: [1]}\n")


def test_versions_are_a_record_and_nothing_else(tmp_path: Path) -> None:
    section = "sweep: {h: [0], s: [1]}\n"
    spec = load(tmp_path, HEAD + section)
    recorded = load(tmp_path, HEAD + section + "versions: {torch: 1.2.3}\n")
    assert recorded.dump() == spec.dump()


def test_operators_of_all_formulas_that_are_compared_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweep_section_operator.py").write_text(
        "from arith import Dist, Scalar, operator\n"
        '@operator("swept_twice", example="swept_twice(base, 2)", passes_shift=["f"])\n'
        "def swept_twice(f: Dist, by: Scalar) -> Dist:\n"
        '    "The log-weights times a number."\n'
        "    return Dist(f.logits * by, f.support)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    own = "operators: [sweep_section_operator:swept_twice]\n"
    try:
        section = "sweep: {formula: {a: base, b: 'swept_twice(base, h)'}, h: [1, 2]}\n"
        spec = load(tmp_path, HEAD + "params: {s: 1}\n" + own + section)
        assert "- sweep_section_operator:swept_twice" in spec.dump()
    finally:
        REGISTRY.pop("swept_twice", None)
        sys.modules.pop("sweep_section_operator", None)


def test_a_specification_that_is_written_elsewhere_finds_the_operators_beside_the_first(
    tmp_path: Path,
) -> None:
    """As in a fresh process: the module is forgotten in between."""
    (tmp_path / "operator_beside.py").write_text(
        "from arith import Dist, operator\n"
        '@operator("left_beside", example="left_beside(base)")\n'
        "def left_beside(f: Dist) -> Dist:\n"
        '    "The same."\n'
        "    return f\n"
    )
    text = (
        HEAD.replace("base + h*help + s*harm", "left_beside(base)")
        + "operators: [operator_beside:left_beside]\n"
    )
    before = list(sys.path)
    try:
        load(tmp_path, text).save(tmp_path / "elsewhere")
        for _ in range(2):
            REGISTRY.pop("left_beside")
            sys.modules.pop("operator_beside")
            again = Spec.load(tmp_path / "elsewhere")
            again.save(tmp_path / "elsewhere")
        assert again.text == "left_beside(base)" and sys.path == before
    finally:
        REGISTRY.pop("left_beside", None)
        sys.modules.pop("operator_beside", None)


@pytest.mark.parametrize(
    ("section", "line", "words"),
    [
        ("sweep:\n  h: []\n  s: [1]\n", 7, "`sweep.h` must have at least 1"),
        ("sweep:\n  h: [0, one]\n  s: [1]\n", 7, "sweep.h.1"),
        ("sweep:\n  h: 0.5\n  s: [1]\n", 7, "`sweep.h` must be a list"),
        ("sweep:\n  h: [1, 1]\n  s: [1]\n", 7, "`sweep.h` holds 1.0 twice"),
        ("sweep:\n  h: [1]\n  s: ''\n", 8, "`sweep.s` is empty"),
        ("sweep:\n  s: [1]\n  sobol: {count: 3, ranges: {h: [0, 1]}, sead: 1}\n", 8, "did you mean `seed`?"),
        ("sweep:\n  s: [1]\n  sobol: {ranges: {h: [0, 1]}}\n", 8, "the key `sweep.sobol.count` is missing"),
        ("sweep:\n  simplex: {names: [h, s], steps: 2, totl: 1}\n", 7, "did you mean `total`?"),
        ("sweep: [h]\n", 6, "`sweep` must be a mapping"),
        ("sweep: {h: [1], s: [1], x: [1]}\n", 6, "`x` is swept, but the formula does not use it"),
        ("sweep: {h: [0, 1], s: 1/h}\n", 6, "s, at h=0: division by zero"),
        ("sweep: {}\n", 6, "nothing to run through"),
        ("sweep: {formula: {a: base +}, h: [1]}\n", 6, "ends after `+`"),
        ("sweep: {formula: {a: base + h*bose}, h: [1]}\n", 6, "did you mean `base`?"),
        ("sweep:\n  formula:\n    a: base\n    b: base *\n", 9, "sweep.formula.b: the formula ends"),
        ("sweep:\n  s: [1]\n  h: [1]\n  1x: [2]\n", 9, "a name is letters, digits and underscores"),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_refused_with_its_line(tmp_path: Path, section: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, HEAD + section)
    assert raised.value.message.startswith(f"{tmp_path / 'spec.yaml'}:{line}: ")
    assert words in str(raised.value)
