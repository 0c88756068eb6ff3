"""Data sets as the trainers get them, from files on disk, and the report of every row."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from arith.errors import SpecError
from arith.operands import LLM
from trainers.data.keys import DataKeys
from trainers.data.load import Data, load_data
from trainers.data.report import Tally

BOS, EOS = 256, 257
Load = Callable[..., Data]
Rows = Sequence[Mapping[str, object]]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(prompt: str, chosen: str = "x", rejected: str = "y", **more: object) -> dict[str, object]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


@pytest.fixture
def load(tmp_path: Path, raw: LLM, tokenizer: Any) -> Load:
    """`load(rows, validation=rows or a fraction, seed=…, …)` is what trainers get of TRL's format."""

    def run(
        rows: Rows,
        *,
        validation: Rows | float | None = None,
        operand: LLM = raw,
        pairs: bool = True,
        seed: int = 0,
        window: int | None = None,
        **keys: object,
    ) -> Data:
        write(tmp_path / "train.jsonl", rows)
        held: object = validation
        if isinstance(validation, Sequence):
            held = write(tmp_path / "held.jsonl", validation).name
        recipe = {"source": "preference", "train": "train.jsonl", "validation": held, **keys}
        return load_data(
            DataKeys.model_validate(recipe), tmp_path, operand, tokenizer,
            end_id=EOS, window=window, pairs=pairs, seed=seed,
        )  # fmt: skip

    return run


def test_the_columns_hold_token_ids_lengths_and_places(load: Load, tmp_path: Path) -> None:
    data = load([pair("q", "yes", "no"), pair("r")])
    assert data.train.to_dict() == {
        "prompt_ids": [[BOS, *b"q"], [BOS, *b"r"]],
        "chosen_ids": [[*b"yes", EOS], [*b"x", EOS]],
        "rejected_ids": [[*b"no", EOS], [*b"y", EOS]],
        "length": [2 + 4 + 3, 2 + 2 + 2],
        "place": [f"{tmp_path}/train.jsonl:1", f"{tmp_path}/train.jsonl:2"],
    }
    assert data.validation is None
    assert str(data.report) == ("train.jsonl: 2 rows read, 2 used\ntraining on 2 rows with 2 prompts")


def test_without_pairs_there_are_single_answers(load: Load) -> None:
    rows = [{"prompt": "q", "completion": " a"}, pair("r", "x", "x")]
    data = load(rows, pairs=False)
    assert data.train.column_names == ["prompt_ids", "chosen_ids", "length", "place"]
    assert data.train["chosen_ids"][:] == [[*b" a", EOS], [*b"x", EOS]]
    assert data.train["length"][:] == [2 + 3, 2 + 2]


def test_every_row_is_used_or_counted_by_its_cause(load: Load, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [
        pair("q"),
        pair("q", "", "y"),
        pair("q", "same", "same"),
        pair("q", "x", " "),
        {"prompt": "q", "chosen": None, "rejected": "y"},
        {"prompt": chat, "chosen": "x", "rejected": "y"},
        pair("q" * 20, "x", "y"),
        pair("q", "x" * 20, "y"),
        pair("q", "x" * 20 + "a", "x" * 20 + "b"),
    ]
    report = load(rows, max_length=12).report
    place = f"{tmp_path}/train.jsonl"
    assert (report.train.read, report.train.used) == (9, 3)
    assert report.train.dropped == {
        "an answer is empty": Tally(2, f"{place}:2"),
        "the two answers are equal": Tally(1, f"{place}:3"),
        "`chosen` is null": Tally(1, f"{place}:5"),
        "the prompt can't be rendered": Tally(
            1, f"{place}:6: `raw` has room for one user message, not for a chat of 2 messages"
        ),
        "the two answers are equal after truncation": Tally(1, f"{place}:9"),
    }
    assert report.train.cut == {
        "the prompt, which keeps its end": Tally(1, f"{place}:7"),
        "an answer, which loses its end and the token that ends the turn": Tally(1, f"{place}:8"),
    }
    assert str(report).splitlines()[:2] == [
        "train.jsonl: 9 rows read, 3 used",
        f"  dropped 2: an answer is empty (first: {place}:2)",
    ]
    assert str(report).splitlines()[-1] == "training on 3 rows with 2 prompts"


def test_a_file_without_a_usable_row_is_refused_with_the_counts(load: Load) -> None:
    with pytest.raises(SpecError, match=r"^train.jsonl: no row can be used") as refused:
        load([pair("q", "same", "same"), pair("q", "", "y")])
    assert "2 rows read, 0 used" in str(refused.value)
    assert "dropped 1: the two answers are equal" in str(refused.value)
    with pytest.raises(SpecError, match=r"^held.jsonl: no row can be used"):
        load([pair("q")], validation=[pair("q", "same", "same")])
    with pytest.raises(SpecError, match=r"^train.jsonl: holds no rows"):
        load([])


def test_a_fraction_keeps_a_prompt_on_one_side(load: Load) -> None:
    rows = [pair(f"prompt {number % 40}", "x" * (1 + number // 40), "y" * 9) for number in range(120)]
    data = load(rows, validation=0.1, max_length=20)
    assert data.validation is not None
    train, held = ({tuple(ids) for ids in part["prompt_ids"]} for part in (data.train, data.validation))
    assert (len(train), len(held)) == (36, 4) and not train & held
    assert (len(data.train), len(data.validation)) == (108, 12)
    assert sorted([*data.train["place"], *data.validation["place"]]) == sorted(load(rows).train["place"])
    assert str(data.report).splitlines()[-2:] == [
        "training on 108 rows with 36 prompts",
        "validating on 12 rows with 4 prompts",
    ]


def test_a_split_is_repeated_by_its_seed(load: Load) -> None:
    rows = [pair(f"prompt {number}") for number in range(50)]
    places = [tuple(load(rows, validation=0.2, seed=seed).train["place"]) for seed in (3, 3, 4)]
    assert places[0] == places[1] != places[2]


def test_a_prompt_and_its_message_are_one_prompt(load: Load) -> None:
    rows = [pair("q"), {"prompt": [{"role": "user", "content": "q"}], "chosen": "x", "rejected": "z"}]
    with pytest.raises(SpecError, match="one and the same prompt"):
        load(rows, validation=0.5)


def test_two_files_are_used_whole_and_shared_prompts_reported(load: Load) -> None:
    data = load([pair("a"), pair("b"), pair("b", "z")], validation=[pair("b"), pair("b", "z"), pair("c")])
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (3, 3)
    assert data.report.shared_prompts == 1
    assert str(data.report).splitlines()[-3:] == [
        "training on 3 rows with 2 prompts",
        "validating on 3 rows with 2 prompts",
        "prompts that stand in both files: 1",
    ]


def test_the_template_reads_a_row_s_further_fields(load: Load, tiny_llama: str) -> None:
    operand = LLM(tiny_llama, template="{tone}|{prompt}")
    data = load([pair("q", tone="shy"), pair("q")], operand=operand)
    assert data.train["prompt_ids"][:] == [[BOS, *b"shy|q"]]
    assert [*data.report.train.dropped] == ["the prompt can't be rendered"]


def test_limits_are_those_of_the_recipe_or_the_window(load: Load) -> None:
    rows = [pair("q" * 30, "x" * 30, "y" * 10)]
    assert load(rows).train["length"][:] == [31 + 31 + 11]
    assert load(rows, window=40).train["length"][:] == [20 + 20 + 11]
    assert load(rows, window=60, max_length=20).train["length"][:] == [10 + 10 + 10]
    assert load(rows, window=60, max_prompt_length=5).train["length"][:] == [5 + 31 + 11]
    with pytest.raises(SpecError, match=r"`data.max_length` is 61"):
        load(rows, window=60, max_length=61)


def test_other_sources_and_names_of_columns_reach_the_rows(load: Load) -> None:
    row = {"question": "q", "response_0": "a", "response_1": "b", "safer_response_id": 1}
    data = load([row], source="safe_rlhf_harmless", columns={"prompt": "question"})
    assert data.train["chosen_ids"][:] == [[*b"b", EOS]]


def test_a_label_that_is_none_stops_with_file_and_line(load: Load, tmp_path: Path) -> None:
    row = {"prompt": "q", "response_0": "a", "response_1": "b", "safer_response_id": 1}
    with pytest.raises(SpecError) as refused:
        load([row, {**row, "safer_response_id": 2}], source="safe_rlhf_harmless")
    assert refused.value.message == f"{tmp_path}/train.jsonl:2: `safer_response_id` must be 0 or 1, not 2"
