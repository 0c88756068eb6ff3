"""Which file or data set a recipe's path means. The `datasets` library reads folders; no hub is in reach."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from arith.errors import SpecError
from trainers.data import rows as rows_module
from trainers.data.keys import DataSet
from trainers.data.rows import data_set_name, placed_rows


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[None]:
    """The library's cache and its progress bars, kept out of the way."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def read(data: DataSet, folder: Path) -> list[tuple[str, dict[str, object]]]:
    return [(place, dict(row)) for place, row in placed_rows(data, folder, split="train")]


def test_a_file_is_seen_from_the_folder_of_the_recipe(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "a.jsonl").write_text('{"x": "far"}')
    (tmp_path / "here" / "a.jsonl").write_text('{"x": "near"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(DataSet(path="a.jsonl"), Path("here")) == [("here/a.jsonl:1", {"x": "near"})]
    assert read(DataSet(path="../a.jsonl"), tmp_path / "here")[0][1] == {"x": "far"}
    assert read(DataSet(path=str(tmp_path / "a.jsonl")), Path("here"))[0][1] == {"x": "far"}
    assert read(DataSet(path="~/a.jsonl"), Path("here"))[0][1] == {"x": "far"}


def test_a_file_of_the_working_folder_is_not_taken_for_one_beside_the_recipe(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"here/a.jsonl: there is no such file"):
        read(DataSet(path="a.jsonl"), Path("here"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"path": "a.txt"}, "a data file ends in .jsonl, "),
        ({"path": "a.jsonl", "split": "train"}, "`split` belongs to a data set of the hub"),
        ({"path": "a.jsonl", "revision": "main"}, "`revision` belongs to a data set of the hub"),
        ({"path": "./nothing"}, "there is no such file or data set"),
        ({"path": "a/b/c"}, "there is no such file or data set"),
        ({"path": "a\0b.jsonl"}, "there is no such file"),
        ({"path": "a\0b"}, "there is no such file or data set"),
    ],
)
def test_what_can_not_be_a_data_set_is_refused(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SpecError, match=words):
        read(DataSet(**keys), tmp_path)


def test_a_folder_is_read_as_a_data_set(tmp_path: Path, cache: None) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    chosen = [{"role": "user", "content": "x"}]
    for split, number in (("train", 1), ("test", 2)):
        row = {"chosen": chosen, "n": number}
        (folder / f"{split}.jsonl").write_text(json.dumps(row))
    assert read(DataSet(path="set"), tmp_path) == [
        (f"{folder} [train], row 1", {"chosen": chosen, "n": 1}),
    ]
    assert read(DataSet(path="set", split="test"), tmp_path)[0][1]["n"] == 2
    with pytest.raises(SpecError, match=r"set \[x\]: can't be loaded: Unknown split \"x\""):
        read(DataSet(path="set", split="x"), tmp_path)


def test_a_folder_that_holds_no_data_is_one_error(tmp_path: Path, cache: None) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(SpecError, match=r"set \[train\]: can't be loaded: .*doesn't contain any data files"):
        read(DataSet(path="set"), tmp_path)
    (tmp_path / "set" / "train.jsonl").write_text("{]")
    with pytest.raises(SpecError, match=r"set \[train\]: can't be loaded: JSON parse error"):
        read(DataSet(path="set"), tmp_path)


def test_without_the_hub_a_data_set_of_it_is_refused(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "hub_reachable", lambda: False)
    with pytest.raises(SpecError, match=r"org/set \[train\]: .* this machine hasn't got it") as error:
        read(DataSet(path="org/set"), tmp_path)
    assert error.value.hint == "HF_HUB_OFFLINE forbids asking the hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(SpecError, match=r"org/set \[train\]: .* the hub can't be reached") as error:
        read(DataSet(path="org/set"), tmp_path)
    assert "HF_HUB_OFFLINE=1" in (error.value.hint or "")


def test_a_data_set_of_the_hub_gets_what_the_recipe_says(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    asked = []

    def load_dataset(*words: object, **options: object) -> list[dict[str, int]]:
        asked.append((words, options))
        return [{"x": 1}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(rows_module, "hub_reachable", lambda: True)
    data = DataSet(path="org/set", name="n", data_dir="d", split="test[:2]", revision="r")
    assert read(data, tmp_path) == [("org/set [test[:2]], row 1", {"x": 1})]
    assert asked == [(("org/set", "n"), {"data_dir": "d", "split": "test[:2]", "revision": "r"})]
    assert read(DataSet(path="org/set"), tmp_path) == [("org/set [train], row 1", {"x": 1})]
    assert data_set_name(DataSet(path="org/set"), split="test") == "org/set [test]"
