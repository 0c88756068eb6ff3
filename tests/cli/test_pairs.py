"""`arith pairs`: preference data in a file, whole pairs only, each written once and where it belongs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import arith.runtime
from arith import LLM, Engine, Formula
from arith.operands.prompts import encode_continuation
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.result import Result
from arith.runtime.row import Row
from tests.cli.conftest import Arith, Spec, refused
from tests.cli.test_generate import prompts_file, rows_in
from trainers.data.keys import DataKeys
from trainers.data.load import load_data
from trainers.pairs import contrast, contrast_pairs, with_system

LETTERS = "eaoit"
SEED = ("--seed", 2)  # under which some pairs are flawed and some are not
STOP = [word for letter in LETTERS for word in ("--stop-strings", letter)]  # some answers end, some are cut
ROOT = Path(__file__).resolve().parents[2]


def flawed(out: Path) -> Path:
    return out.with_name(f"{out.stem}.flawed.jsonl")


def in_order(*paths: Path) -> list[dict[str, Any]]:
    rows = [row for path in paths for row in rows_in(path)]
    return sorted(rows, key=lambda row: (row["prompt"], row["occurrence"], row["sample"]))


@pytest.fixture
def words(spec: Spec, tmp_path: Path) -> list[object]:
    """A run of eight pairs, some of them flawed."""
    path = spec("base + w*other", params={"w": 0.5}, base={}, other={"template": "Q: {prompt}"})
    prompts = prompts_file(tmp_path, "one", "two", "one", "three")
    return [
        "pairs",
        path,
        "--prompts",
        prompts,
        "--rejected",
        "base",
        "--num-return-sequences",
        2,
        *SEED,
        *STOP,
    ]


def test_rows_hold_what_the_two_formulas_wrote(
    arith: Arith, words: list[object], tmp_path: Path, tiny_llama: str
) -> None:
    out = tmp_path / "pairs.jsonl"
    values = tmp_path / "fitted.yaml"
    values.write_text("w: 0.25\n")
    result = arith(*words, "--out", out, "--params", values)
    assert result.exit_code == 0 and result.stdout == ""
    bound = {"base": LLM(tiny_llama, template="{prompt}"), "other": LLM(tiny_llama, template="Q: {prompt}")}
    both = contrast(Formula("base + 0.25*other", **bound), bound["base"])
    prompts = ["one", "two", "one", "three"]
    found = list(
        contrast_pairs(
            Engine(both),
            prompts,
            max_new_tokens=8,
            num_return_sequences=2,
            seed=SEED[1],
            stop_strings=tuple(LETTERS),
        )
    )
    occurrences = [0, 0, 1, 0]
    for path, causes in ((out, {None}), (flawed(out), {"empty side", "equal sides", "side cut off"})):
        expected = [
            (
                prompts[pair.index], occurrences[pair.index], pair.sample,
                pair.chosen.text, pair.rejected.text, pair.flaw,
            )
            for pair in found if pair.flaw in causes
        ]  # fmt: skip
        names = ("prompt", "occurrence", "sample", "chosen", "rejected")
        rows = [(*(row[name] for name in names), row.get("flaw")) for row in rows_in(path)]
        assert rows and sorted(rows) == sorted(expected)
    assert {json.dumps(row["params"]) for row in in_order(out, flawed(out))} == {'{"w": 0.25}'}
    counts = f"8 pairs, {sum(len(p.chosen.token_ids) + len(p.rejected.token_ids) for p in found)} tokens"
    assert counts in result.stderr and f"{len(rows_in(out))} of them in {out}" in result.stderr
    assert f"in {flawed(out)}: " in result.stderr


def test_system_prompts_tell_the_sides_of_one_formula_apart(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama: str
) -> None:
    path, out = spec(base={"template": None}), tmp_path / "pairs.jsonl"
    given = ("--chosen-system", "Be kind.", "--rejected-system", "Be rude.", "--keep-cut", "--no-do-sample")
    result = arith("pairs", path, "--prompts", prompts_file(tmp_path, "one"), "--out", out, *given)
    assert result.exit_code == 0, result.stderr
    row = rows_in(out)[0]
    for side, system in (("chosen", "Be kind."), ("rejected", "Be rude.")):
        alone = Engine(with_system(LLM(tiny_llama), system)).generate(
            "one", max_new_tokens=8, do_sample=False
        )
        assert row[side] == alone[0].text


def test_fields_are_columns_and_messages_get_messages(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "pairs.jsonl"
    chat = [{"role": "user", "content": "b"}]
    lines = [
        {"prompt": "a", "id": "x7", "context": "c", "fields": {"n": 3}},
        {"prompt": chat, "context": "d"},
        {"prompt": "a", "context": "other"},
    ]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    path = spec("base", base={"template": "{context} {prompt}"}, worse={"template": "{prompt} {context}"})
    given = ["pairs", path, "--prompts", prompts, "--out", out, "--rejected", "worse", "--keep-cut"]
    assert arith(*given).exit_code == 0
    first, second, third = sorted(rows_in(out), key=lambda row: row["context"])
    assert list(first)[:4] == ["id", "prompt", "chosen", "rejected"]
    assert (first["id"], first["fields"], third["occurrence"]) == ("x7", {"n": 3}, 0)
    assert second["prompt"] == chat
    for side in ("chosen", "rejected"):
        assert isinstance(first[side], str)
        assert [message["role"] for message in second[side]] == ["assistant"]
    before = out.read_bytes()
    assert "nothing to do" in arith(*given, "--resume").stderr and out.read_bytes() == before


def test_the_trainers_read_the_file_as_it_is(
    arith: Arith, spec: Spec, tmp_path: Path, tiny_llama: str
) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "pairs.jsonl"
    chat = [{"role": "user", "content": "b"}]
    lines = [{"prompt": "a", "context": "c"}, {"prompt": chat, "context": "d"}]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    path = spec("base", base={"template": "{context} {prompt}"}, worse={})
    given = ["pairs", path, "--prompts", prompts, "--out", out, "--rejected", "worse", "--keep-cut"]
    assert arith(*given).exit_code == 0
    operand = LLM(tiny_llama, template="{context} {prompt}")
    tokenizer = load_tokenizer(operand)
    keys = DataKeys.model_validate({"source": "preference", "train": str(out)})
    data = load_data(keys, tmp_path, operand, tokenizer, end_id=None, window=None, pairs=True, seed=0)
    rows = rows_in(out)
    assert len(data.train) == len(rows) == 2
    for read, row in zip(sorted(data.train, key=lambda one: one["place"]), rows, strict=True):
        rendered = "<s>c a" if row["prompt"] == "a" else "<s>d b"
        assert tokenizer.decode(read["prompt_ids"]) == rendered
        for side in ("chosen", "rejected"):
            text = row[side] if row["prompt"] == "a" else row[side][0]["content"]
            assert read[f"{side}_ids"] == encode_continuation(tokenizer, text)


def test_a_field_in_the_place_of_a_pairs_own_is_refused(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": "a", "chosen": "b"}\n')
    words = ("pairs", spec(), "--prompts", prompts, "--out", tmp_path / "o.jsonl", "--rejected", "2*base")
    refused(arith(*words), f"{prompts}:2: the field `chosen`")


def test_a_resumed_run_equals_an_uninterrupted_one(arith: Arith, words: list[object], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert arith(*words, "--out", whole).exit_code == 0
    good, bad = (path.read_bytes().splitlines(keepends=True) for path in (whole, flawed(whole)))
    assert len(good) > 1 and len(bad) > 1
    for kept, dropped in ((1, 0), (0, 1), (len(good), 1), (1, len(bad))):
        cut.write_bytes(b"".join(good[:kept]) + good[-1][:-9] * (kept < len(good)))
        flawed(cut).write_bytes(b"".join(bad[:dropped]) + bad[-1][:9] * (dropped < len(bad)))
        assert arith(*words, "--out", cut, "--resume").exit_code == 0
        assert in_order(cut) == in_order(whole) and in_order(flawed(cut)) == in_order(flawed(whole))


def test_no_pair_that_is_there_is_run_again_be_it_flawed(
    arith: Arith, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ran = tmp_path / "out.jsonl", []
    result_of = Row.result

    def counted(row: Row, *given: Any) -> Result:
        ran.append((row.index, row.sample))
        return result_of(row, *given)

    assert arith(*words, "--out", out).exit_code == 0
    good, bad = (path.read_bytes().splitlines(keepends=True) for path in (out, flawed(out)))
    out.write_bytes(b"".join(good[1:]))
    flawed(out).write_bytes(b"".join(bad[1:]))
    monkeypatch.setattr(Row, "result", counted)
    assert arith(*words, "--out", out, "--resume").exit_code == 0
    assert len(ran) == len(set(ran)) == 4
    assert sorted(out.read_bytes().splitlines(keepends=True)) == sorted(good)
    monkeypatch.setattr(arith_runtime(), "Engine", None)
    result = arith(*words, "--out", out, "--resume")
    assert result.exit_code == 0 and "nothing to do" in result.stderr


def arith_runtime() -> Any:
    return arith.runtime


def test_overwriting_leaves_nothing_of_the_run_before(
    arith: Arith, words: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert arith(*words, "--out", out).exit_code == 0 and rows_in(flawed(out))
    refused(arith(*words, "--out", out), "exists already", "--resume")
    refused(arith(*words, "--out", out, "--resume", "--keep-cut"), "other options")
    again = [*words, "--out", out, "--overwrite", "--forbid", "zz", "--keep-cut", "--max-new-tokens", 1]
    assert arith(*again, "--num-return-sequences", 1, "--seed", 5).exit_code == 0
    assert len(in_order(out, flawed(out))) == 4
    assert len({row["run"] for row in in_order(out, flawed(out))}) == 1
    out.unlink()
    refused(arith(*words, "--out", out), f"{flawed(out)}: the file exists already")
    assert not out.exists() and not list(tmp_path.glob("*.lock"))


def test_equal_sides_are_no_training_data(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    out, prompts = tmp_path / "out.jsonl", prompts_file(tmp_path, "one", "two")
    words = ["pairs", spec(), "--prompts", prompts, "--rejected", "2*base", "--no-do-sample", "--out", out]
    result = arith(*words)
    assert result.exit_code == 0 and "equal sides: 2" in result.stderr
    assert rows_in(out) == [] and [row["flaw"] for row in rows_in(flawed(out))] == ["equal sides"] * 2


def test_interrupted_whole_pairs_stay(
    arith: Arith, words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_completed = Engine.as_completed

    def interrupted(self: Engine, *given: Any, **options: Any) -> Any:
        results = as_completed(self, *given, **options)
        for _ in range(9):
            yield next(results)
        raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "as_completed", interrupted)
        result = arith(*words, "--out", out)
    finished = in_order(out, flawed(out))
    assert result.exit_code == 130 and 1 <= len(finished) < 8 and str(out) in result.stderr
    assert arith(*words, "--out", out, "--resume").exit_code == 0
    assert len(in_order(out, flawed(out))) == 8


def test_killed_at_any_moment_no_pair_is_lost_or_written_twice(
    arith: Arith, words: list[object], tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    longer = [*words, "--max-rows", 2, "--num-return-sequences", 30]
    assert arith(*longer, "--out", whole).exit_code == 0
    command = [sys.executable, "-m", "arith", *map(str, longer), "--out", str(out), "--resume"]
    for pairs in (3, 12):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not out.exists() or len(out.read_bytes().splitlines()) < pairs:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert arith(*longer, "--out", out, "--resume").exit_code == 0
    assert in_order(out) == in_order(whole) and in_order(flawed(out)) == in_order(flawed(whole))


def test_bad_sides_are_refused(arith: Arith, spec: Spec, tmp_path: Path) -> None:
    prompts, out = prompts_file(tmp_path, "one"), tmp_path / "out.jsonl"
    path = spec("base + w*base", params={"w": 0.5})
    words = ["pairs", path, "--prompts", prompts, "--out", out]
    refused(arith(*words), "the chosen and the rejected side are the same")
    refused(arith(*words, "--rejected", "base - w*bose"), "unknown name `bose`", "did you mean `base`?")
    refused(arith(*words, "--chosen", "base +"), "base +")
    refused(arith(*words, "--rejected-system", "Be rude."), "operand `base`: `system` is given")
    refused(arith(*words, "--rejected", "base", "--param", "v=1"), "no parameter `v`")
    refused(arith(*words, "--rejected", "base", "--param", "is_chosen=0"), "`is_chosen` tells the sides")
    refused(arith("pairs", path, "--prompts", prompts, "--out", prompts, "--rejected", "base"), "is read by")
    assert not out.exists() and not flawed(out).exists() and not list(tmp_path.glob("*.lock"))
