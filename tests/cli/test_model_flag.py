"""`--model NAME=MODEL`: another model in the place of an operand's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from arith import LLM, Classifier, OptionError, RewardModel
from arith.cli.flags import with_models
from arith.spec import Spec as Document
from tests.cli.conftest import Arith, Spec, refused

GONE = {"adapter": None, "revision": None, "quantization": None, "device_map": None}


def test_what_belongs_to_the_old_model_goes_and_all_else_stays(spec: Spec) -> None:
    keys: dict[str, Any] = {
        "model": "org/big", "adapter": "org/arm", "revision": "v2", "quantization": "4bit",
        "device_map": "auto", "template": "S: {system} Q: {prompt}", "system": "Be kind.",
        "dtype": "bfloat16", "vocab": "strict",
    }  # fmt: skip
    before = Document.load(spec("a + b", a=keys, b=keys))
    after = with_models(before, ["a = other=one "])
    assert after.operands["b"] == before.operands["b"] == LLM(**keys)
    assert after.operands["a"] == LLM(**{**keys, **GONE, "model": "other=one"})
    assert with_models(before, None) == before


def test_guides_take_other_models_too(spec: Spec) -> None:
    document = Document.load(
        spec(
            "a + guide(c, on=a, k=5) + guide(r, on=a, k=5)",
            a={},
            c={
                "kind": "classifier",
                "model": "org/c",
                "label": "formal",
                "revision": "v2",
                "device_map": "auto",
            },
            r={"kind": "reward_model", "model": "org/r", "template": "{text}", "device_map": "auto"},
        )
    )
    after = with_models(document, ["c=new", "r=newer"]).operands
    assert after["c"] == Classifier("new", "formal")
    assert after["r"] == RewardModel("newer", template="{text}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["base"], "must be NAME=MODEL"),
        (["=x"], "must be NAME=MODEL"),
        (["base= "], "must be NAME=MODEL"),
        (["base=x", "base=y"], "`base` is given twice"),
        (["bsae=x"], "did you mean `base`?"),
        (["zzz=x"], "operands: base, other"),
    ],
)
def test_what_names_no_operand_is_refused(spec: Spec, given: list[str], words: str) -> None:
    document = Document.load(spec("base + other", base={}, other={}))
    with pytest.raises(OptionError) as caught:
        with_models(document, given)
    assert words in str(caught.value)


def test_the_text_is_that_of_a_specification_with_the_model_in_it(
    arith: Arith, spec: Spec, tiny_llama: str, tiny_llama_other: str
) -> None:
    written = arith("generate", spec(base={"model": tiny_llama_other}), "--prompt", "Hi")
    given = arith(
        "generate",
        spec(base={"adapter": "no/adapter"}),
        "--prompt",
        "Hi",
        "--model",
        f"base={tiny_llama_other}",
    )
    own = arith("generate", spec(base={}), "--prompt", "Hi")
    assert given.exit_code == 0, given.stderr
    assert given.stdout == written.stdout != own.stdout


def test_every_command_over_a_specification_takes_it(
    arith: Arith, spec: Spec, tiny_llama: str, tmp_path: Path
) -> None:
    absent: dict[str, Any] = {"model": "no-such-org/model", "quantization": "4bit", "device_map": "auto"}
    path = spec(
        "base + w*other", base=absent, other=absent, params={"w": 0.5}, sampling={"max_new_tokens": 2}
    )
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(json.dumps({**json.loads(path.read_text()), "sweep": {"w": [0, 1]}}))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi", "completion": "!"}\n')
    (tmp_path / "prompts.txt").write_text("Hi\n")
    models = ["--model", f"base={tiny_llama}", "--model", f"other={tiny_llama}"]
    prompts = ["--prompts", tmp_path / "prompts.txt"]
    commands: list[list[object]] = [
        ["check", path],
        ["generate", path, *prompts],
        ["score", path, "--prompts", tmp_path / "prompts.jsonl"],
        ["bench", path, "--rows", 1, "--tokens", 2, "--repeats", 1],
        ["sweep", sweep, *prompts, "--out", tmp_path / "out"],
        ["pairs", path, *prompts, "--rejected", "base - w*other", "--out", tmp_path / "pairs.jsonl"],
    ]
    for words in commands:
        result = arith(*words, *models)
        assert result.exit_code == 0, (words, result.stderr)
    saved = Document.load(tmp_path / "out").operands["base"]
    assert isinstance(saved, LLM) and (saved.model, saved.quantization) == (tiny_llama, None)


def test_rows_of_another_model_are_not_resumed(
    arith: Arith, spec: Spec, tiny_llama_other: str, tmp_path: Path
) -> None:
    words = ["generate", spec(base={}), "--prompt", "Hi", "--out", tmp_path / "out.jsonl"]
    assert arith(*words).exit_code == 0
    refused(arith(*words, "--resume", "--model", f"base={tiny_llama_other}"), "out.jsonl")
