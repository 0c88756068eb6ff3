"""Rows of local files: their places, and one error for each file that isn't what it should be."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from arith.errors import SpecError
from trainers.data.files import SUFFIXES, is_data_file, read_rows

ROWS = [
    {"prompt": "a\tb\r\nc", "chosen": "été \u2028 \U0001f600", "rejected": ""},
    {"prompt": '"q", {x}', "chosen": "x" * 300_000, "rejected": " 1"},
]


def json_lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_bytes(rows: list[dict[str, str]], folder: Path) -> bytes:
    path = folder / "written"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path.read_bytes()


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    """The rows in the format of the suffix, by other writers than the package's own."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)
        return path
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    whole = {
        "jsonl": lambda: json_lines(rows),
        "json": lambda: json.dumps(rows, indent=1).encode(),
        "csv": lambda: csv_bytes(rows, path.parent),
    }[kind]()
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows_in_order(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"rows{suffix}", ROWS)
    assert is_data_file(str(path))
    read = list(read_rows(path))
    assert [dict(row) for _, row in read] == ROWS
    mark = ":" if ".jsonl" in suffix else ", row "
    assert [place for place, _ in read] == [f"{path}{mark}1", f"{path}{mark}2"]


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "ROWS.JSONL.GZ"
    path.write_bytes(gzip.compress(json_lines(ROWS)))
    assert len(list(read_rows(path))) == 2


def test_lines_keep_their_numbers_beside_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"a": 1}\r\n \n{"a": "\\r\\n"}')
    assert list(read_rows(path)) == [(f"{path}:2", {"a": 1}), (f"{path}:4", {"a": "\r\n"})]


def test_rows_of_csv_are_counted_beside_blank_lines_and_line_ends_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"x\r\ny",1\r\n"","z ""q"""\r\n')
    rows = [{"a": "x\r\ny", "b": "1"}, {"a": "", "b": 'z "q"'}]
    assert list(read_rows(path)) == [(f"{path}, row {n}", row) for n, row in enumerate(rows, start=1)]


def test_the_limit_of_the_csv_module_is_as_before(tmp_path: Path) -> None:
    before = csv.field_size_limit(1000)
    try:
        assert len(list(read_rows(written(tmp_path / "rows.csv", ROWS)))) == 2
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_parquet_gives_lists_of_messages_and_nulls(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"chosen": [{"role": "user", "content": "x"}], "label": 1}, {"chosen": None, "label": None}]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [row for _, row in read_rows(path)] == rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_has_no_rows_or_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(gzip.compress(b"") if suffix.endswith(".gz") else b"")
    if suffix in (".json", ".json.gz", ".parquet"):
        with pytest.raises(SpecError, match=str(path)):
            list(read_rows(path))
    else:
        assert list(read_rows(path)) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"x": 1}\n{"x": }\n', ":2: not JSON: expecting value (column 7)"),
        ("a.jsonl", b'{"x": 1}\n[1]\n', ":2: must be an object"),
        ("a.jsonl", b'{"x": 1} {"x": 2}\n', ":1: not JSON: extra data"),
        ("a.jsonl", b'{"x": 1, "x": 2}', ":1: `x` stands twice"),
        ("a.jsonl", b'{"x": NaN}', ":1: not JSON: NaN is no number"),
        ("a.jsonl", b'{"x": "\\ud800"}', r":1: the escape \ud800 stands for no character"),
        ("a.jsonl", b"[" * 100_000, ":1: nested too deeply"),
        ("a.jsonl", b'{"x": "\xff"}', ":1: not UTF-8 text (byte 7 of the line)"),
        ("a.jsonl", b'{"x": 1}\n\x1f\x8b\x08', ":2: not UTF-8 text"),
        ("a.jsonl", b"\0\n", ":1: not JSON"),
        ("a.jsonl.gz", b'{"x": 1}', ": not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(json_lines(ROWS))[:-20], ": not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b"{}")[:11] + b"\xff\xff", ": not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"x": 1}\n{'), ":2: not JSON"),
        ("a.json", b'{"x": 1}\n{"x": 2}\n', ": not JSON: extra data (line 2, column 1)"),
        ("a.json", b'{"x": 1}', ": must be one JSON list of objects"),
        ("a.json", b'[{"x": 1}, 2]', ", row 2: must be an object"),
        ("a.json", b'[{"x": "\xff"}]', ": not UTF-8 text (byte 8)"),
        ("a.csv", b'a,b\n1,2\n"x', ": not well-formed CSV after row 1: unexpected end of data"),
        ("a.csv", b"a,b\n1,2\n3\n", ", row 2: 1 values for 2 columns"),
        ("a.csv", b"a,a\n1,2\n", ": a column's name stands twice in a, a"),
        ("a.csv", b"a\n1\n\xff\n", ": not UTF-8 text"),
        ("a.csv.gz", b"a\n1\n", ": not a whole gzip file"),
        ("a.parquet", b"PAR1", ": can't be read as Parquet: "),
        ("a.parquet", b"PAR1" + b"x" * 100 + b"PAR1", ": can't be read as Parquet: "),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_one_error(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SpecError) as error:
        list(read_rows(path))
    assert error.value.message.startswith(f"{path}{words}")


@pytest.mark.parametrize(
    ("name", "words"), [("no.jsonl", "no such file"), ("no.parquet", "no such file"), ("f.csv", "directory")]
)
def test_a_path_that_can_not_be_read_is_one_error(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(SpecError, match=words):
        list(read_rows(tmp_path / name))


def test_a_text_that_is_not_utf_8_inside_parquet_is_one_error(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    texts = pyarrow.array([b"ok", b"\xff"]).cast(pyarrow.string(), safe=False)
    pyarrow.parquet.write_table(pyarrow.table({"x": texts}), path)
    with pytest.raises(SpecError, match="can't be read as Parquet"):
        list(read_rows(path))


def test_rows_before_a_broken_one_are_given_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_lines(ROWS[:1]) + b"{")
    rows = read_rows(path)
    assert next(rows)[1] == ROWS[0]
    with pytest.raises(SpecError, match=":2: not JSON"):
        next(rows)
