"""Prompts files: what counts as a prompt, and the place of what doesn't."""

import io
import json
from pathlib import Path

import pytest

from arith.errors import SpecError
from arith.prompts_file import PromptLine, read_piped_prompts, read_prompts


def written(tmp_path: Path, content: str | bytes, name: str = "prompts.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufefffirst\r\n\n  second \u2028 line\nthird", "p.txt")
    lines = read_prompts(path)
    assert [line.prompt for line in lines] == ["first", "  second \u2028 line", "third"]
    assert [line.place for line in lines] == [f"{path}:1", f"{path}:3", f"{path}:4"]


def test_an_object_line_gives_prompt_id_and_all_fields(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hi"}]
    first = {"prompt": "a", "id": 7, "context": "c", "score": 1.5, "tags": ["x"]}
    rows = [first, {"prompt": chat, "id": "x"}, {"prompt": "\u2028"}]
    lines = read_prompts(written(tmp_path, "\n\n".join(json.dumps(row) for row in rows)))
    assert [line.whole for line in lines] == [
        {"prompt": "a", "context": "c", "score": 1.5, "tags": ["x"]},
        chat,
        "\u2028",
    ]
    assert [line.id for line in lines] == [7, "x", None]


def test_completions_are_read_for_scoring_only(tmp_path: Path) -> None:
    path = written(tmp_path, '{"prompt": "a", "completion": " b"}\n')
    assert read_prompts(path, completions=True)[0].completion == " b"
    assert read_prompts(path, completions=True)[0].whole == "a"
    assert read_prompts(path)[0] == PromptLine(f"{path}:1", "a", {"completion": " b"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{prompt: 1}", "not JSON"),
        (b'{"prompt": "a"', "not JSON"),
        (b'"just text"', "must be an object"),
        (b"[1]", "must be an object"),
        (b'{"text": "a"}', "no `prompt`"),
        (b"{}", "no `prompt`"),
        (b'{"prompt": 3}', "must be text or a list"),
        (b'{"prompt": null}', "must be text or a list"),
        (b'{"prompt": "a", "id": [1]}', "`id`"),
        (b'{"prompt": "a", "id": true}', "`id` must be text or a whole number, not true"),
        (b'{"prompt": "a", "prompt": "b"}', "`prompt` stands twice"),
        (b'{"prompt": "a", "x": {"y": 1, "y": 1}}', "`y` stands twice"),
        (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"prompt": "a", "n": NaN}', "NaN is no number"),
        (b'{"prompt": "a", "n": -1e999}', "-1e999 is too large"),
        (b'{"prompt": "\\ud800"}', "ud800"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, words: str) -> None:
    path = written(tmp_path, b'{"prompt": "fine"}\n\n' + line + b'\n{"prompt": "fine"}\n')
    with pytest.raises(SpecError) as raised:
        read_prompts(path)
    assert raised.value.message.startswith(f"{path}:3: ") and words in raised.value.message


@pytest.mark.parametrize("name", ["p.json", "p.csv", "p"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"\.jsonl or \.txt"):
        read_prompts(written(tmp_path, "x", name))


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SpecError, match="holds no prompts"):
        read_prompts(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.jsonl: no such file"):
        read_prompts(tmp_path / "nowhere.jsonl")


def test_a_line_to_score_needs_a_completion(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"jsonl:1: needs `completion`"):
        read_prompts(written(tmp_path, '{"prompt": "a"}'), completions=True)
    with pytest.raises(SpecError, match=r"needs a \.jsonl file"):
        read_prompts(written(tmp_path, "a", "p.txt"), completions=True)


def test_standard_input_holds_a_prompt_a_line() -> None:
    stream = io.TextIOWrapper(io.BytesIO("één\n\ntwo\n".encode()))
    assert [line.prompt for line in read_piped_prompts(stream)] == ["één", "two"]
    with pytest.raises(SpecError, match="standard input"):
        read_piped_prompts(io.TextIOWrapper(io.BytesIO(b"\n")))
