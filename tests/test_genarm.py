"""The experiments of GenARM in examples/genarm: the paper's settings, and whole runs with small models."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner, Result

from arith import LLM
from arith.cli.app import app
from arith.prompts_file import read_prompts
from arith.spec import Spec
from arith.study.judging.keys import JudgeKeys
from tests.study.stand_in import StandIn, by_length
from tests.trainers.conftest import PAIRS

ROOT = Path(__file__).resolve().parents[1]
GENARM = ROOT / "examples" / "genarm"
DOCUMENTS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(GENARM.glob("*.yaml"))}
SPECS = [*(name for name, document in DOCUMENTS.items() if "operands" in document), "../genarm"]
SCORERS = [name for name in DOCUMENTS if name.endswith("-scorers")]

TULU = "<|user|>\n{prompt}\n<|assistant|>\n"
ALPACA = "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:"
STANFORD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
ALPACA_7B = "PKU-Alignment/alpaca-7b-reproduced"
TULU_ARM = "YuanchengXu/AutoregressiveRM-tulu2-7b"
WEIGHTS = [{"alpha_help": h, "alpha_harm": s} for h, s in ((0, 0), (0.2, 4), (0.8, 1))]

# base and its template, model and template of the others, new tokens, points
PAPER: dict[str, tuple[Any, ...]] = {
    "hh-rlhf": (
        "argsearch/llama-7b-sft-float32", "raw", "argsearch/llama-7b-sft-float32", "raw", 128,
        [{"formula": "genarm"}, {"formula": "dpo"}, {"formula": "base"}],
    ),
    "safe-rlhf": (ALPACA_7B, ALPACA, ALPACA_7B, ALPACA, 512, WEIGHTS),
    "safe-rlhf-65b": ("TheBloke/alpaca-lora-65B-GPTQ", STANFORD, ALPACA_7B, ALPACA, 512, WEIGHTS),
    "safe-rlhf-soups": (
        ALPACA_7B, ALPACA, ALPACA_7B, ALPACA, 512,
        [{"formula": one} for one in ("base", "helpful", "soup_75", "soup_50", "soup_25", "harmless")],
    ),
    "alpaca-eval": ("allenai/tulu-2-7b", TULU, TULU_ARM, TULU, 7500, []),
    "alpaca-eval-70b": ("allenai/tulu-2-70b", TULU, TULU_ARM, TULU, 7500, []),
    "../genarm": ("allenai/tulu-2-7b", TULU, TULU_ARM, TULU, 256, []),
}  # fmt: skip
SUMS = {
    "hh-rlhf": "base + alpha*arm",
    **dict.fromkeys(("safe-rlhf", "safe-rlhf-65b"), "base + alpha_help*helpful + alpha_harm*harmless"),
    "safe-rlhf-soups": "base",
    **dict.fromkeys(("alpaca-eval", "alpaca-eval-70b", "../genarm"), "base + alpha*arm"),
}


def arith(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def path_of(name: str) -> Path:
    return GENARM / f"{name}.yaml"


def test_every_specification_and_scorers_file_is_known_here() -> None:
    assert set(SPECS) == set(PAPER) == set(SUMS)
    assert set(DOCUMENTS) == {*SPECS, *SCORERS, "hh-rlhf-judge", "alpaca-eval-judge"} - {"../genarm"}


@pytest.mark.parametrize("name", SPECS)
def test_a_specification_passes_check_without_its_models(name: str) -> None:
    assert "not on this machine" in arith("check", path_of(name)).stdout


@pytest.mark.parametrize("name", SPECS)
def test_a_specification_has_the_settings_of_the_paper(name: str) -> None:
    """The sum as written, at temperature 1, is what the paper's scripts draw from at 1/(1 + Σα)."""
    spec = Spec.load(path_of(name))
    operands = {one: operand for one, operand in spec.operands.items() if isinstance(operand, LLM)}
    base, base_template, model, template, tokens, points = PAPER[name]
    assert operands.keys() == spec.operands.keys()
    assert (operands["base"].model, operands["base"].template) == (base, base_template)
    others = [operand for one, operand in operands.items() if one != "base"]
    assert {(operand.model, operand.template) for operand in others} == {(model, template)}
    assert spec.text == SUMS[name]
    assert [point.values for point in spec.swept()[1]] == points
    sampling = spec.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (tokens, 1, 1)
    assert sampling.do_sample and sampling.top_k == 0 and spec.params in ({"alpha": 1}, {})
    assert spec.unused == ()


@pytest.mark.parametrize("name", SPECS)
def test_a_specification_runs_with_small_models_in_the_place_of_its_own(
    name: str, tmp_path: Path, tiny_llama: str, tiny_llama_padded: str
) -> None:
    """The others have a token more than the base, as Alpaca's ARMs have beside Llama."""
    spec = Spec.load(path_of(name))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "a", "prompt": "\\n\\nHuman: Hi\\n\\nAssistant:"}\n{"prompt": "Why?"}\n')
    models = [f"--model={one}={tiny_llama if one == 'base' else tiny_llama_padded}" for one in spec.operands]
    command, out = ("generate", tmp_path / "out.jsonl") if spec.sweep is None else ("sweep", tmp_path / "out")
    words = [command, path_of(name), "--prompts", prompts, "--out", out, "--max-new-tokens", 6, *models]
    arith(*words)
    results = out if spec.sweep is None else out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows) == 2 * max(1, len(PAPER[name][-1]))
    assert all(1 <= len(row["token_ids"]) <= 6 for row in rows)
    again = arith(*words, *(["--resume"] if spec.sweep is None else []))
    assert "nothing to do" in again.stderr


JUDGES = {
    f"{file}:{name}": JudgeKeys.model_validate(keys)
    for file in SCORERS
    for name, keys in DOCUMENTS[file].items()
}
JUDGES["hh-rlhf-judge:overall"] = JudgeKeys.model_validate(DOCUMENTS["hh-rlhf-judge"])


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_has_the_settings_of_the_paper(name: str) -> None:
    keys = JUDGES[name]
    assert (keys.model, keys.temperature, keys.swap) == ("gpt-4", 0.7, "random")
    assert keys.criterion == name.partition(":")[2] and keys.price is not None
    assert bool(keys.cut_at) == name.startswith("hh")
    if not name.startswith("hh"):
        experiments = (
            ["safe-rlhf", "safe-rlhf-65b"] if name.startswith("safe-rlhf-scorers") else ["safe-rlhf-soups"]
        )
        assert all(keys.reference_point in PAPER[experiment][-1] for experiment in experiments)


def test_alpaca_eval_is_generated_written_and_judged(
    tmp_path: Path, tiny_llama: str, tiny_llama_other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Why?", "dataset": "koala"}\n{"prompt": "How?", "dataset": "vicuna"}\n')
    models = (f"--model=base={tiny_llama}", f"--model=arm={tiny_llama_other}", "--max-new-tokens=6")
    sides = [tmp_path / "guided.jsonl", tmp_path / "base.jsonl"]
    for alpha, out in zip((1, 0), sides, strict=True):
        words = ("--param", f"alpha={alpha}", "--prompts", prompts, "--out", out)
        arith("generate", path_of("alpaca-eval"), *words, *models)
    arith("alpaca-outputs", sides[0], "--out", tmp_path / "list.json", "--generator", "guided")
    texts = {row["prompt"]: row["text"] for row in map(json.loads, sides[0].read_text().splitlines())}
    assert json.loads((tmp_path / "list.json").read_text()) == [
        {"instruction": prompt, "output": texts[prompt], "generator": "guided", "dataset": dataset}
        for prompt, dataset in (("Why?", "koala"), ("How?", "vicuna"))
    ]
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with StandIn(by_length()) as server:
        text = path_of("alpaca-eval-judge").read_text()
        (tmp_path / "judge.yaml").write_text(text.replace("https://api.openai.com/v1", server.url))
        told = arith("win-rate", *sides, "--judge", tmp_path / "judge.yaml", "--yes").stdout
    assert len(server.bodies) == 4 and "win" in told  # both orders


@pytest.fixture
def trained(tmp_path: Path, tiny_llama: str) -> Callable[[str], str]:
    """`trained("hh-arm")` runs that recipe with a small model and data of its own: the adapter's folder."""

    def train(name: str) -> str:
        data = tmp_path / f"{name}.jsonl"
        rows = [
            {
                "prompt": f"\n\nHuman: {pair['prompt']}\n\nAssistant:", "chosen": f" {pair['chosen']}",
                "rejected": f" {pair['rejected']}", "response_0": pair["chosen"],
                "response_1": pair["rejected"], "better_response_id": 0, "safer_response_id": 1,
                "is_response_0_safe": True, "is_response_1_safe": True,
            }
            for pair in PAIRS
        ]  # fmt: skip
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        changes = {
            "operand.model": tiny_llama, "operand.quantization": "null", "data.train": data,
            "data.validation": "null", "data.max_length": 256, "data.max_prompt_length": 128,
            "training.optim": "adamw_torch", "training.max_steps": 4, "training.warmup_steps": 0,
            "training.learning_rate": 0.1,
            "training.per_device_train_batch_size": 2, "training.gradient_accumulation_steps": 1,
            "output": tmp_path / "trained" / name,
        }  # fmt: skip
        recipe = ROOT / "examples" / "recipes" / f"{name}.yaml"
        arith("train", recipe, *(f"--set={key}={value}" for key, value in changes.items()))
        return str(tmp_path / "trained" / name)

    return train


def test_policies_become_soups_which_are_generated_from_and_judged(
    trained: Callable[[str], str], tmp_path: Path, tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole row of the paper's table, by its commands."""
    helpful, harmless = trained("safe-rlhf-helpful-dpo"), trained("safe-rlhf-harmless-dpo")
    soups = {}
    for share in (75, 50, 25):
        soups[f"soup_{share}"] = tmp_path / f"soup-{share}"
        parts = (f"{helpful}={share / 100}", f"{harmless}={1 - share / 100}")
        arith("soup", *parts, "--out", soups[f"soup_{share}"])
    models = {"base": tiny_llama, "helpful": helpful, "harmless": harmless, **soups}
    (tmp_path / "prompts.txt").write_text("Why?\n")
    out = tmp_path / "out"
    swapped = [f"--model={name}={model}" for name, model in models.items()]
    words = ["--prompts", tmp_path / "prompts.txt", "--out", out, "--max-new-tokens", 6, *swapped]
    swept = arith("sweep", path_of("safe-rlhf-soups"), *words)
    assert "backbone 2" not in swept.stderr  # one set of weights under all six
    for name, operand in Spec.load(out).operands.items():
        assert isinstance(operand, LLM)
        assert (operand.template, operand.adapter is None) == (ALPACA, name == "base")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with StandIn(by_length()) as server:
        text = path_of("safe-rlhf-soups-scorers").read_text()
        (tmp_path / "scorers.yaml").write_text(text.replace("https://api.openai.com/v1", server.url))
        table = arith("score-sweep", out, "--with", tmp_path / "scorers.yaml", "--yes").stdout
    rows = (out / "results.jsonl").read_text().splitlines()
    assert len({json.loads(row)["text"] for row in rows}) == 6
    assert len(server.bodies) == 10  # five points beside the base, two criteria
    assert all(body["temperature"] == 0.7 for body in server.bodies)
    assert "soup_50" in table and "harmless" in table


@pytest.mark.parametrize("page", ["examples/genarm/README.md", "docs/from-genarm.md"])
def test_the_commands_of_a_page_are_commands_of_the_program(page: str) -> None:
    """Each is parsed, and not run; the files of examples that it names are there."""
    commands = typer.main.get_command(app)
    text = (ROOT / page).read_text().replace("\\\n", "")
    found = [shlex.split(line) for line in re.findall(r"^arith (.*)$", text, re.MULTILINE)]
    assert found
    for name, *words in found:
        command = commands.get_command(commands.make_context("arith", [name]), name)  # type: ignore[attr-defined]
        assert command is not None, name
        command.make_context(name, words)
        for word in words:
            if word.startswith("examples/") and word.endswith(".yaml"):
                assert (ROOT / word).is_file(), word


def test_the_python_of_the_page_writes_prompts_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the data sets and the tokenizer, which counts characters here."""
    import datasets
    import transformers

    def load_dataset(path: str, **options: object) -> Any:
        if path == "Dahoas/full-hh-rlhf":
            assert options == {"split": "test"}
            return {"prompt": ["x" * 2049, *(f"\n\nHuman: {number}\n\nAssistant:" for number in range(400))]}
        return [{"instruction": "Why?", "output": "So.", "dataset": "koala"}]

    class Tokenizer:
        @staticmethod
        def from_pretrained(name: str) -> Callable[[str], dict[str, str]]:
            return lambda text: {"input_ids": text}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(transformers, "AutoTokenizer", Tokenizer)
    monkeypatch.chdir(tmp_path)
    Path("evaluation_prompts-500.json").write_text('[{"uid": "u1", "prompt": "How?"}]')
    [code] = re.findall(r"```python\n(.*?)```", (GENARM / "README.md").read_text(), re.DOTALL)
    exec(code, {})
    hh = read_prompts(Path("prompts/hh-rlhf.jsonl"))
    assert len(hh) == 300 and hh[0].prompt == "\n\nHuman: 0\n\nAssistant:"
    assert read_prompts(Path("prompts/safe-rlhf.jsonl"))[0].id == "u1"
    assert read_prompts(Path("prompts/alpaca-eval.jsonl"))[0].fields == {"dataset": "koala"}
