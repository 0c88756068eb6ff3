"""Specifications: YAML to a bound formula, and the same as Python would build."""

from dataclasses import fields
from pathlib import Path

import pytest

from arith import LLM, SpecError
from arith.runtime.options import Sampling
from arith.spec import Spec
from arith.spec_file import OperandKeys


def load(folder: Path, text: str) -> Spec:
    path = folder / "spec.yaml"
    path.write_text(text)
    return Spec.load(path)


def test_a_specification_gives_operands_params_and_sampling(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        """
formula: base + alpha*arm
defaults: {model: org/base, template: "{prompt}"}
operands:
  base:
  arm: {model: org/arm, adapter: org/lora, dtype: bfloat16}
params: {alpha: 1e-3}
sampling: {max_new_tokens: 9, stop_strings: ["\\n"]}
""",
    )
    assert spec.operands == {
        "base": LLM("org/base", template="{prompt}"),
        "arm": LLM("org/arm", adapter="org/lora", dtype="bfloat16", template="{prompt}"),
    }
    assert spec.params == {"alpha": 0.001}
    assert spec.sampling == Sampling(max_new_tokens=9, stop_strings=("\n",))
    formula = spec.formula()
    assert formula.operands == ("base", "arm") and formula.parameters == ("alpha",)


def test_an_operand_has_every_field_of_its_class() -> None:
    assert list(OperandKeys.model_fields) == [field.name for field in fields(LLM)]
    declared = LLM("x")
    for name, field in OperandKeys.model_fields.items():
        assert name == "model" or field.default == getattr(declared, name)


def test_null_takes_a_default_away(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "formula: a - b\ndefaults: {model: m, system: s}\noperands: {a: {}, b: {system: null}}\n",
    )
    assert spec.operands["a"] == LLM("m", system="s") and spec.operands["b"] == LLM("m")


def test_a_local_path_is_seen_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arms" / "one").mkdir(parents=True)
    monkeypatch.chdir("/")
    spec = load(
        tmp_path,
        "formula: a + b + c + d\noperands:\n  a: {model: ./m, adapter: arms/one}\n  b: {model: org/m}\n"
        "  c: {model: /abs}\n  d: {model: package:p/f.gguf}\n",
    )
    assert spec.operands["a"] == LLM(str(tmp_path / "m"), adapter=str(tmp_path / "arms" / "one"))
    assert [spec.operands[name].model for name in "bcd"] == ["org/m", "/abs", "package:p/f.gguf"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("formula: a\ndefaults:\n  model: m\n  template: hi\noperands:\n  a: {}\n", 4, "operand `a`"),
        ("formula: a\noperands:\n  a:\n    model: m\n    system: s\n    template: raw\n", 6, "raw"),
        ("formula: a\noperands: {a: {model: m}}\nparams: {a: 1}\n", 3, "`a`"),
        ("formula: top_k(a, 5)\noperands: {a: {model: m}, t: {model: m}}\n", 2, "`t`"),
        ("formula: |\n  x = a + x\n  x\noperands: {a: {model: m}}\n", 1, "circular"),
        ("formula: a\noperands: {}\n", 2, "operands"),
        ("formula: a\noperands: {a: {model: ''}}\n", 2, "operands.a.model"),
        ("formula: a\noperands: {a: {model: m}}\nsampling: {stop_strings: [1]}\n", 3, "stop_strings"),
        ("formula: a\noperands: {a: {model: m}}\nsampling: {do_sample: 1}\n", 3, "do_sample"),
        ("formula: a\noperands: {a: {model: yes}}\nextra: 1\n", 3, "extra"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, text)
    assert raised.value.message.startswith(f"{tmp_path / 'spec.yaml'}:{line}: ")
    assert words in str(raised.value)


def test_the_error_of_a_formula_keeps_its_carets(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, "operands: {base: {model: m}}\nformula: base + 2*bose\n")
    assert ":2: formula:" in str(raised.value)
    assert "1 | base + 2*bose" in str(raised.value) and "^^^^" in str(raised.value)
