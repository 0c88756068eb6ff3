"""Rows of every kind: each is used, counted by its cause, or refused with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arith.errors import SpecError
from arith.operands import LLM
from trainers.data.keys import DataKeys, SourceName
from trainers.data.load import load_data
from trainers.data.sources import SOURCES

LENGTH = 12
TRANSCRIPT = "\n\nHuman: a\n\nAssistant:"
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", " ", "\t", "\r\n", "\ud800", "\0", "ab c", "ab d", "x" * 2000, "</s>", "{prompt}"]),
    st.sampled_from([TRANSCRIPT, TRANSCRIPT + " b", TRANSCRIPT + " c\r\n", "\n\nHuman:", "0", "1", "1.5"]),
)
roles = st.sampled_from(["user", "assistant", "system", "tool"]) | texts
messages = st.lists(
    st.fixed_dictionaries({"role": roles, "content": st.none() | texts}, optional={"name": texts}), max_size=4
)
others = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
values = st.one_of(texts, messages, st.sampled_from([0, 1, 2, 1.0, 1.5, None]), others)


USER, YES, NO = (
    {"role": role, "content": content}
    for role, content in (("user", "q"), ("assistant", "yes"), ("assistant", "no"))
)
SOUND: dict[SourceName, list[dict[str, object]]] = {
    "preference": [
        {"prompt": "q", "chosen": "yes", "rejected": "no", "tone": "shy"},
        {"chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": [USER], "completion": [YES]},
    ],
    "hh": [{"chosen": TRANSCRIPT + " yes", "rejected": TRANSCRIPT + " no", "tone": "shy"}],
    "hh_transcript": [{"chosen": TRANSCRIPT + " yes", "rejected": TRANSCRIPT + " no"}],
    "safe_rlhf_helpful": [{"prompt": "q", "response_0": "yes", "response_1": "no", "better_response_id": 1}],
    "safe_rlhf_harmless": [{"prompt": "q", "response_0": "yes", "response_1": "no", "safer_response_id": 0}],
    "ultrafeedback": [{"prompt": "q", "chosen": [USER, YES], "rejected": [USER, NO], "score_chosen": 2}],
    "alpaca_eval": [{"instruction": "q", "output_1": "yes", "output_2": "no", "preference": 2}],
}


@st.composite
def rows_of_a_source(draw: Any) -> tuple[SourceName, bool, list[dict[str, object]]]:
    """A source, whether pairs are asked for, and rows of it of which some are changed, up to anything."""
    name, pairs = draw(st.sampled_from(list(SOURCES))), draw(st.booleans())
    columns = st.sampled_from(SOURCES[name].columns)
    changes = st.dictionaries(columns | texts, values, max_size=2)
    changed = st.builds(lambda row, change: {**row, **change}, st.sampled_from(SOUND[name]), changes)
    fewer = st.dictionaries(columns, values, max_size=6)
    return name, pairs, draw(st.lists(st.one_of(changed, changed, fewer), min_size=1, max_size=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(rows_of_a_source(), st.sampled_from(["raw", None, "{prompt} {tone}"]), st.sampled_from([None, 0.5]))
def test_rows_of_any_kind_are_used_counted_or_refused_with_a_place(
    tmp_path: Path,
    tiny_llama: str,
    tokenizer: Any,
    drawn: tuple[SourceName, bool, list[dict[str, object]]],
    template: str | None,
    validation: float | None,
) -> None:
    source, pairs, rows = drawn
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = DataKeys(source=source, train={"path": path.name}, validation=validation, max_length=LENGTH)  # type: ignore[arg-type]
    operand = LLM(tiny_llama, template=template)
    try:
        data = load_data(keys, tmp_path, operand, tokenizer, end_id=257, window=512, pairs=pairs, seed=0)
    except SpecError as refused:
        assert refused.message.startswith((f"{path}:", "rows.jsonl: no row can be used", "`data.validation`"))
        return
    report = data.report.train
    assert report.read == len(rows)
    assert report.used + sum(tally.rows for tally in report.dropped.values()) == report.read
    parts = [data.train, *([] if data.validation is None else [data.validation])]
    assert sum(map(len, parts)) == report.used
    for row in (row for part in parts for row in part):
        answers = [row["chosen_ids"], *([row["rejected_ids"]] if pairs else [])]
        assert row["prompt_ids"] and all(answers)
        assert len(row["prompt_ids"]) + max(map(len, answers)) <= LENGTH
        assert row["length"] == len(row["prompt_ids"]) + sum(map(len, answers))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ua1\r\n \0', max_size=40).map(str.encode))
def test_a_file_of_any_bytes_gives_rows_or_one_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    from trainers.data.files import read_rows

    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    try:
        rows = list(read_rows(path))
    except SpecError as refused:
        assert refused.message.startswith(str(path))
    else:
        assert all(place.startswith(str(path)) and isinstance(row, dict) for place, row in rows)
