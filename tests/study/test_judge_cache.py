"""Replies on disk: one cache a file, whole lines, and nothing else."""

import json
from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.study.judging.cache import ReplyCache
from arith.study.judging.reply import Reply


def test_a_cache_is_one_however_it_is_named_and_as_the_file_is_now(tmp_path: Path) -> None:
    one = ReplyCache.at(tmp_path / "cache.jsonl")
    (tmp_path / "link").symlink_to(tmp_path)
    one.add("a", Reply("text", 1, None))
    one.add("b", Reply("text", 1, None))
    assert ReplyCache.at(tmp_path / "link" / "cache.jsonl") is one and "a" in one
    lines = (tmp_path / "cache.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cache.jsonl").write_text(lines[1])
    assert "a" not in ReplyCache.at(tmp_path / "cache.jsonl") and "b" in one
    ReplyCache(tmp_path / "cache.jsonl").add("c", Reply("other", 1, None))
    one.add("c", Reply("late", 1, None))
    assert one["c"].text == "other"  # the first one stays


def test_a_last_reply_without_an_end_of_line_counts_and_half_a_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    long = "text " * 30000  # longer than what is read at once
    ReplyCache(path).add("a", Reply("text", 1, None))
    ReplyCache(path).add("b", Reply(long, 1, None))
    whole = path.read_text()
    path.write_text(whole.removesuffix("\n"))
    again = ReplyCache(path)
    assert again["b"].text == long
    again.add("c", Reply("more", 1, None))
    assert path.read_text().startswith(whole) and len(path.read_text().splitlines()) == 3
    path.write_text(whole[:-2])
    assert "b" not in ReplyCache(path)
    ReplyCache(path).add("c", Reply("more", 1, None))
    assert [json.loads(line)["request"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_a_cache_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    ReplyCache(path).add("key", Reply("text", 1, None))
    assert ReplyCache(path)["key"] == Reply("text", 1, None) and "other" not in ReplyCache(path)
    with path.open("a") as stream:
        stream.write('{"id": 1}\n')
    with pytest.raises(SpecError, match=r"cache.jsonl:2: not a reply of a judge"):
        ReplyCache(path)
    with pytest.raises(SpecError, match="doesn't exist"):
        ReplyCache(tmp_path / "absent" / "cache.jsonl")
