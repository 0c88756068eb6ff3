"""Bad input never reaches a traceback: one clear message on standard error and exit code 2."""

import json
import sys
from pathlib import Path

import pytest

from arith.cli.generate import choose_prompts
from arith.errors import OptionError
from tests.cli.conftest import Arith, Spec, refused


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("", ["empty"]),
        ("# nothing but a comment", ["only comments"]),
        ("base + ", ["1 | base +"]),
        ("base + alpha*hamless", ["hamless"]),
        ("top_k(base)", ["top_k", "`k`"]),
        ("top_k(base, 5, 6)", ["top_k", "at most 2"]),
        ("topk(base, 5)", ["did you mean `top_k`"]),
        ("base * base", ["1 | base * base"]),
        ("base \u2212 0.5*base", ["-"]),
        ("2\u00b7base", ["*"]),
        ("entropy(base)", ["scalar"]),
        ("a = b\nb = a\na", ["circular"]),
        ("base > 0", ["mask"]),
    ],
)
@pytest.mark.parametrize("command", ["check", "generate"])
def test_a_wrong_formula(arith: Arith, spec: Spec, command: str, formula: str, words: list[str]) -> None:
    path = spec(formula)
    extra = ["--prompt", "a"] if command == "generate" else []
    refused(arith(command, path, *extra), f"{path}:2: formula:", *words)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "formula: base\noperands:\n  base: {modell: x}\n",
            3,
            ["operands.base.modell", "did you mean `model`"],
        ),
        ("formula: base\noperands: {base: {model: x}}\nsampling:\n  temprature: 1\n", 4, ["`temperature`"]),
        ("formula: base\noperands: {base: {model: x}}\nsampling:\n  temperature: hot\n", 4, ["temperature"]),
        ("formula: base\noperands: {base: {model: x}}\nsampling:\n  temperature: -1\n", 4, ["temperature"]),
        (
            "formula: base\noperands: {base: {model: x}}\nsampling: {max_new_tokens: 2.5}\n",
            3,
            ["max_new_tokens"],
        ),
        ("formula: base\noperands: {base: {model: 7}}\n", 2, ["operands.base.model", "text"]),
        ("formula: base\noperands: {base: {model: x, dtype: float8}}\n", 2, ["dtype", "bfloat16"]),
        ("formula: base\noperands: {base: {adapter: x}}\n", 2, ["no `model`"]),
        ("formula: base\noperands: [base]\n", 2, ["operands"]),
        ("formula: 3\noperands: {base: {model: x}}\n", 1, ["formula", "text"]),
        ("operands: {base: {model: x}}\n", 1, ["formula"]),
        ("- 1\n", 1, ["mapping"]),
        ("formula: base\noperands: {base: {model: x}}\nparams: {alpha: .nan}\n", 3, ["alpha", "finite"]),
        ("formula: base\noperands: {base: {model: x}}\nparams: {alpha: '1'}\n", 3, ["alpha"]),
        ("formula: base\nformula: base\n", 2, ["twice"]),
        ("formula: [\n", 2, ["YAML"]),
        ("formula: base\noperands:\n base:\n  model: x\n  template: hi\n", 5, ["template", "{prompt}"]),
        ("formula: base\noperands:\n  my-base: {model: x}\n", 3, ["my-base"]),
    ],
)
def test_a_wrong_specification(arith: Arith, tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    refused(arith("check", path), f"{path}:{line}: ", *words)


def test_a_missing_specification(arith: Arith, tmp_path: Path) -> None:
    refused(arith("check", tmp_path / "nowhere.yaml"), "nowhere.yaml", "no such file")


def test_a_prompt_that_is_not_utf_8(arith: Arith, spec: Spec) -> None:
    refused(arith("generate", spec(), "--prompt", "\udcff hi"), "--prompt: ", "\\udcff", "UTF-8")


def test_a_prompts_file_or_specification_as_output(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path, prompts = spec(), tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a", "completion": "b"}')
    before = (path.read_bytes(), prompts.read_bytes())
    for command in ("generate", "score"):
        for out in (path, prompts):
            for flag in ("--overwrite", "--resume"):
                refused(arith(command, path, "--prompts", prompts, "--out", out, flag), f"{out}: is read by")
    assert (path.read_bytes(), prompts.read_bytes()) == before


def test_no_standard_input(arith: Arith, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OptionError, match="no prompt"):
        choose_prompts(None, None)


def test_a_prompt_longer_than_the_context_window(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("short\n" + "x" * 600 + "\n")
    refused(arith("generate", spec(), "--prompts", prompts), f"{prompts}:2", "512")
    prompts.write_text("x" * 511 + "\n")  # and the BOS
    assert arith("generate", spec(), "--prompts", prompts, "--out", tmp_path / "out.jsonl").exit_code == 0


def test_a_field_that_is_not_text_where_the_template_uses_it(
    arith: Arith, spec: Spec, tmp_path: Path
) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a", "n": 3}\n')
    path = spec("base", base={"template": "{n} {prompt}"})
    refused(arith("generate", path, "--prompts", prompts), f"{prompts}:1", "the field `n` isn't text: 3")


def test_a_field_that_the_template_uses_and_a_prompt_lacks(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    path = spec("base", base={"template": "{context} {prompt}"})
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a", "context": "c"}\n{"prompt": "b"}\n')
    refused(arith("generate", path, "--prompts", prompts), f"{prompts}:2", "`context`")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("alpha=nan", "finite"),
        ("alpha=inf", "finite"),
        ("alpha=-Infinity", "finite"),
        ("alpha=high", "number"),
        ("alpha=", "number"),
        ("alpha=1_0", "`1_0` isn't a number"),
        ("alpha", "NAME=NUMBER"),
        ("=1", "NAME=NUMBER"),
        ("alfa=1", "did you mean `alpha`"),
        ("beta=1", "no parameter `beta`"),
    ],
)
def test_a_wrong_parameter(arith: Arith, spec: Spec, value: str, words: str) -> None:
    path = spec("base + alpha*other", base={}, other={"system": None}, params={"alpha": 1})
    refused(arith("generate", path, "--prompt", "a", "--param", value), words)


def test_a_parameter_without_a_value(arith: Arith, spec: Spec) -> None:
    path = spec("base + alpha*base")
    refused(arith("generate", path, "--prompt", "a"), f"{path}: formula: ", "`alpha`", "value", "^^^^^")


@pytest.mark.parametrize(
    "line", ["{", "[]", '"text"', '{"text": "a"}', '{"prompt": 3}', '{"prompt": [{"role": "king"}]}']
)
def test_a_malformed_prompts_file(arith: Arith, spec: Spec, tmp_path: Path, line: str) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a"}\n' + line + "\n")
    refused(arith("generate", spec(base={"template": None}), "--prompts", prompts), f"{prompts}:2: ")


def test_a_prompts_file_that_is_empty_or_of_another_suffix(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    empty, other = tmp_path / "p.jsonl", tmp_path / "p.json"
    empty.write_text("\n")
    other.write_text("{}")
    refused(arith("generate", spec(), "--prompts", empty), "holds no prompts")
    refused(arith("generate", spec(), "--prompts", other), ".jsonl or .txt")
    refused(arith("generate", spec(), "--prompts", tmp_path / "none.txt"), "no such file")


def test_a_prompt_given_twice(arith: Arith, spec: Spec) -> None:
    refused(arith("generate", spec(), "--prompt", "a", "--prompt", "b"), "--prompt is given 2 times")


def test_no_prompt_or_two_sources(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    refused(arith("generate", spec(), stdin=""), "standard input", "--prompt")
    refused(arith("generate", spec(), "--prompt", "a", "--prompts", tmp_path / "p.txt"), "give one")


def test_an_output_file_that_exists_or_has_no_folder(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious\n")
    refused(arith("generate", spec(), "--prompt", "a", "--out", out), "exists", "--resume", "--overwrite")
    refused(arith("generate", spec(), "--prompt", "a", "--out", out, "--resume"), f"{out}:1", "not a row")
    refused(arith("generate", spec(), "--prompt", "a", "--out", tmp_path / "no" / "o.jsonl"), "doesn't exist")
    refused(arith("generate", spec(), "--prompt", "a", "--resume"), "--out")
    assert out.read_text() == "precious\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-new-tokens", "-1"],
        ["--max-new-tokens", "0"],
        ["--temperature", "-0.5"],
        ["--temperature", "nan"],
        ["--temperature", "1e-40"],
        ["--stop-strings", ""],
        ["--max-rows", "0"],
        ["--top-p", "0"],
        ["--top-k", "-3"],
        ["--num-return-sequences", "0"],
        ["--seed", "-1"],
    ],
)
def test_a_generation_option_out_of_range(arith: Arith, spec: Spec, flags: list[str]) -> None:
    result = arith("generate", spec(), "--prompt", "a", *flags)
    refused(result, flags[0].removeprefix("--").replace("-", "_"))
    assert "loading" not in result.stderr and "input" not in result.stderr.lower()


def test_a_wrong_device(arith: Arith, spec: Spec) -> None:
    refused(arith("generate", spec(), "--prompt", "a", "--device", "abacus"), "abacus")


def test_a_flag_of_the_wrong_kind_is_a_usage_error(arith: Arith, spec: Spec) -> None:
    result = arith("generate", spec(), "--prompt", "a", "--max-new-tokens", "many")
    assert result.exit_code == 2 and "--max-new-tokens" in result.stderr


def test_scoring_lines_without_a_completion(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    refused(arith("score", spec(), "--prompts", prompts), f"{prompts}:2", "completion")


def test_scoring_lines_that_do_not_fit_the_context_window(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a" * 300, "completion": "b" * 300}]
    prompts.write_text("\n".join(json.dumps(row) for row in rows))
    refused(arith("score", spec(), "--prompts", prompts), f"{prompts}:2", "512")


def test_an_unknown_operator(arith: Arith) -> None:
    refused(arith("operators", "unoin"), "did you mean `union`")
