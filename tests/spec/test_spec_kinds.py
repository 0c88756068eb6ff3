"""Operands of each kind in a specification, operators of one's own, and specifications written by engines."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arith import LLM, Classifier, Engine, Formula, RewardModel, SpecError, operator
from arith.language.operators import REGISTRY
from arith.language.values import Dist, Scalar
from arith.runtime.options import Sampling
from arith.spec import Spec
from arith.spec_file import json_schema
from tests.sequence_models import save_bert_classifier


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def registry() -> Iterator[None]:
    """Operators registered inside a test are gone after it, and so is the module that made them."""
    before, modules = dict(REGISTRY), set(sys.modules)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_each_kind_of_operand_has_its_own_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
formula: base + guide(f, on=base, k=5) + guide(r, on=base, k=5)
defaults: {model: org/base, template: "{prompt}", dtype: float32}
operands:
  base:
  arm: {kind: llm, model: org/arm}
  f: {kind: classifier, model: org/f, label: formal, template: "{prompt} {text}"}
  r: {kind: reward_model, model: org/r, revision: v2}
""",
    )
    assert Spec.load(path).operands == {
        "base": LLM("org/base", template="{prompt}", dtype="float32"),
        "arm": LLM("org/arm", template="{prompt}", dtype="float32"),
        "f": Classifier("org/f", "formal", template="{prompt} {text}"),
        "r": RewardModel("org/r", revision="v2"),
    }


@pytest.mark.parametrize(
    ("operand", "words"),
    [
        ("{kind: clasifier, model: m, label: x}", "`operands.f.kind` must be one of llm, classifier"),
        ("{kind: classifier, model: m}", "the key `operands.f.label` is missing"),
        ("{kind: classifier, label: x}", "the key `operands.f.model` is missing"),
        ("{kind: classifier, model: m, label: x, adapter: a}", "unknown key `operands.f.adapter`"),
        ("{kind: classifier, model: m, label: [x]}", "`operands.f.label"),
        ("{kind: classifier, model: m, label: x, template: hi}", "{text}"),
        ("{kind: reward_model, model: m, lable: x}", "unknown key `operands.f.lable`"),
        ("{kind: reward_model, model: m.gguf}", "GGUF"),
        ("{model: m, label: x}", "unknown key `operands.f.label`"),
    ],
)
def test_keys_of_another_kind_are_refused_with_their_place(tmp_path: Path, operand: str, words: str) -> None:
    path = write(
        tmp_path,
        f"formula: base + guide(f, base, 5)\noperands:\n  base: {{model: m}}\n  f: {operand}\n",
    )
    with pytest.raises(SpecError) as raised:
        Spec.load(path)
    assert raised.value.message.startswith(f"{path}:4: ")
    assert words in str(raised.value)


MODULE = """
from arith import Dist, Scalar, operator

@operator("boost_{0}", example="boost_{0}(base, 2)", passes_shift=["f"])
def boost_{0}(f: Dist, by: Scalar) -> Dist:
    "The log-weights times a number."
    return Dist(f.logits * by, f.support)

def plain(x):
    return x
"""


def test_operators_of_ones_own_are_found_beside_the_file(tmp_path: Path, registry: None) -> None:
    (tmp_path / "own_operators_a.py").write_text(MODULE.format("a"))
    path = write(
        tmp_path,
        "formula: boost_a(base, 2)\noperands: {base: {model: m}}\noperators: ['own_operators_a:boost_a']\n",
    )
    assert str(Spec.load(path).formula()) == "boost_a(base, 2)"
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("no_such_module_here:f", "can't import `no_such_module_here`"),
        ("own_operators_b:f", "there is no `f` in `own_operators_b`"),
        ("own_operators_b:plain", "is no operator\nhint: decorate it with @arith.operator"),
        ("own_operators_b", "is no operator of one's own\nhint: write it as package.module:function"),
    ],
)
def test_what_is_no_operator_is_refused(tmp_path: Path, registry: None, named: str, words: str) -> None:
    (tmp_path / "own_operators_b.py").write_text(MODULE.format("b"))
    path = write(tmp_path, f"formula: base\noperands: {{base: {{model: m}}}}\noperators:\n  - '{named}'\n")
    with pytest.raises(SpecError) as raised:
        Spec.load(path)
    assert raised.value.message.startswith(f"{path}:4: ") and words in str(raised.value)


def test_an_engine_comes_back_as_it_was_saved(tmp_path: Path, tiny_llama: str, lora_a: str) -> None:
    classifier = save_bert_classifier(tmp_path / "classifier")
    formula = Formula(
        'd = arm - base  # a comment\nwithin(base + alpha*d, matching("[^e]*")) + 0.5*guide(f, on=base, k=4)',
        base=LLM(tiny_llama, template="raw"),
        arm=LLM(tiny_llama, adapter=lora_a, system='Say "no":\n{x}', template="{system}\n{prompt}"),
        f=Classifier(classifier, 1),
        alpha=0.1 + 0.2,
    )
    options = {"max_new_tokens": 5, "temperature": 0.7, "stop_strings": ("\n", "no"), "seed": 11}
    engine = Engine(formula, sampling=options)
    engine.save(tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["spec.yaml"]
    again = Engine.load(tmp_path / "saved")
    assert str(again.formula) == str(formula) and again.formula.bindings == formula.bindings
    assert again.sampling == engine.sampling == Sampling.of(options)
    prompts = [{"prompt": "one", "x": "y"}, {"prompt": "two", "x": "z"}]
    assert [one.token_ids for one in again.generate(prompts)] == [
        one.token_ids for one in engine.generate(prompts)
    ]
    assert len(engine.generate(prompts[0], max_new_tokens=1)[0].token_ids) == 1


def test_a_relative_path_is_saved_as_the_place_it_means(
    tmp_path: Path, tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(tiny_llama).parent)
    engine = Engine(LLM(f"./{Path(tiny_llama).name}", template="raw"))
    engine.save(tmp_path)
    monkeypatch.chdir("/")
    assert Engine.load(tmp_path / "spec.yaml").operands["operand1"].model == str(Path(tiny_llama).resolve())


def test_an_operator_that_no_path_names_can_not_be_saved(
    tmp_path: Path, tiny_llama: str, registry: None
) -> None:
    @operator("twice", example="twice(base, 2)", passes_shift=["f"])
    def twice(f: Dist, by: Scalar) -> Dist:
        """The log-weights times a number."""
        return Dist(f.logits * by, f.support)

    engine = Engine(Formula("twice(base, 2)", base=LLM(tiny_llama, template="raw")))
    assert len(engine.generate("x", max_new_tokens=2)[0].token_ids) == 2
    with pytest.raises(SpecError, match=r"`twice` can't be named in a file.*can't be imported"):
        engine.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_function_without_types_is_no_operator(registry: None) -> None:
    with pytest.raises(ValueError, match="`x` of `untyped` needs an annotation"):

        @operator("untyped", example="untyped(base)")
        def untyped(x) -> Dist:  # type: ignore[no-untyped-def]
            return x  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="needs a return annotation"):

        @operator("untold", example="untold(base)")
        def untold(x: Dist):  # type: ignore[no-untyped-def]
            return x

    with pytest.raises(ValueError, match="the operator name `t` is taken"):

        @operator("t", example="t(base)")
        def reserved(x: Dist) -> Dist:
            return x


def test_a_spec_is_written_so_that_it_reads_back(tmp_path: Path) -> None:
    spec = Spec(
        "made",
        "a + w*b",
        {"a": LLM("yes", system="1e3"), "b": LLM("org/m", template=" {prompt}\n\n", revision="null")},
        {"w": 1e-30},
        Sampling(stop_strings=("true", " ", "é\t")),
    )
    path = tmp_path / "spec.yaml"
    path.write_text(spec.dump(), encoding="utf-8")
    again = Spec.load(path)
    assert (again.text, again.operands, again.params, again.sampling) == (
        spec.text, spec.operands, spec.params, spec.sampling,
    )  # fmt: skip


DRAFTED = """
formula: base + w*arm
defaults: {{model: org/base}}
operands: {{base: {{}}, arm: {{model: org/arm}}, small: {{model: org/small}}, unused: {{model: org/x}}}}
params: {{w: 0.5, v: 2}}
speculate: {0}
"""


def test_a_draft_is_a_formula_over_the_declared_operands(tmp_path: Path) -> None:
    spec = Spec.load(write(tmp_path, DRAFTED.format("{draft: v*small, tokens: 4}")))
    drafting = spec.drafting()
    assert isinstance(drafting, dict) and drafting["tokens"] == 4
    assert drafting["draft"].bindings == {"small": LLM("org/small"), "v": 2.0}
    assert spec.unused == ("unused",)
    again = Spec.load(write(tmp_path, spec.dump()))
    assert again.speculate == spec.speculate
    for written, expected in {
        "{draft: prompt_lookup}": {"draft": "prompt_lookup", "tokens": "auto"},
        "{lazy: [arm], tokens: 2}": {"lazy": ("arm",), "tokens": 2},
        "{lazy: arm}": {"lazy": ("arm",), "tokens": "auto"},
        "null": None,
        "false": False,
    }.items():
        assert Spec.load(write(tmp_path, DRAFTED.format(written))).drafting() == expected


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{draft: smal}", "did you mean `small`?"),
        ("{draft: base +}", "ends after"),
        ("{draft: base, tokens: 0}", "`speculate.tokens` must be a whole number of at least 1, or auto"),
        ("{draft: base, tokens: true}", "`speculate.tokens` must be a whole number of at least 1, or auto"),
        ("{draft: base, tokens: atuo}", "`speculate.tokens` must be a whole number of at least 1, or auto"),
        ("{draft: base, lazy: [arm]}", "needs either `draft` or `lazy`"),
        ("{tokens: 3}", "needs either `draft` or `lazy`"),
        ("{}", "needs either `draft` or `lazy`"),
        ("true", "`speculate` must be a mapping"),
        ("{drat: base}", "did you mean `draft`?"),
        ("base", "`speculate` must be a mapping"),
    ],
)
def test_a_wrong_draft_is_refused_with_its_place(tmp_path: Path, written: str, words: str) -> None:
    path = write(tmp_path, DRAFTED.format(written))
    with pytest.raises(SpecError) as raised:
        Spec.load(path)
    assert raised.value.message.startswith(f"{path}:6: ") and words in str(raised.value)


@pytest.mark.parametrize(("written", "expected"), [("false", False), ("{tokens: 3}", {"tokens": 3})])
def test_what_is_superseded_takes_a_number_of_tokens_or_nothing(
    tmp_path: Path, written: str, expected: object
) -> None:
    text = DRAFTED.replace("base + w*arm", "supersede(base, arm)").format(written)
    spec = Spec.load(write(tmp_path, text))
    assert spec.drafting() == expected
    again = Spec.load(write(tmp_path, spec.dump()))
    assert again.drafting() == expected
    schema = json_schema()["properties"]["speculate"]["anyOf"]
    assert {"const": False} in schema


@pytest.mark.parametrize(
    ("written", "compile"), [("on", "on"), ("off", "off"), ("auto", "auto"), ("true", "on"), ("'on'", "on")]
)
def test_compile_is_a_switch_that_survives_being_saved(tmp_path: Path, written: str, compile: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"formula: a\noperands: {{a: {{model: org/a}}}}\ncompile: {written}\n")
    spec = Spec.load(file)
    assert spec.compile == compile
    file.write_text(spec.dump())
    assert Spec.load(file).compile == compile
    file.write_text("formula: a\noperands: {a: {model: org/a}}\ncompile: maybe\n")
    with pytest.raises(SpecError, match=r"spec\.yaml:3: `compile` must be 'auto', 'on' or 'off'"):
        Spec.load(file)
