"""Rows as `arith sweep` writes them, for tests that need no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def sweep_row(
    number: int = 0, /, *, point: Mapping[str, Any] | None = None, sample: int = 0, **changes: Any
) -> Row:
    """A row of the numbered prompt."""
    row: Row = {
        "prompt_id": number,
        "prompt": f"Question {number}?",
        "occurrence": 0,
        "point": {"h": 0.5} if point is None else dict(point),
        "sample": sample,
        "seed": 7,
        "text": f"Answer {number} {sample}.",
        "token_ids": [1, 2, 3],
        "logprobs": {"formula": -1.0},
        "finish_reason": "length",
        "run": "0123456789ab",
    }
    return {**row, **changes}


def write_rows(folder: Path, rows: Sequence[Row]) -> Path:
    """Writes them as the results of a sweep; gives the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def grid(prompts: int, points: Sequence[float], samples: int = 1) -> list[Row]:
    """A row for each prompt at each value of `h`, and for each sample."""
    return [
        sweep_row(prompt, point={"h": h}, sample=sample, text=f"Answer {prompt} at {h}, {sample}.")
        for prompt in range(prompts)
        for h in points
        for sample in range(samples)
    ]
