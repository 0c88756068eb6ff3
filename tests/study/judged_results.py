"""Results, and judges of them, for the tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_results(
    path: Path,
    texts: Sequence[Sequence[str]],
    *,
    point: Mapping[str, float | str] | None = None,
    prompts: Sequence[Any] | None = None,
    **fields: object,
) -> Path:
    """Appends rows of a sweep: `texts` are `[prompts][samples]` at this point."""
    with path.open("a", encoding="utf-8") as stream:
        for index, samples in enumerate(texts):
            for sample, text in enumerate(samples):
                row = {
                    "prompt_id": index,
                    "prompt": f"prompt {index}" if prompts is None else prompts[index],
                    **({"fields": fields} if fields else {}),
                    "occurrence": 0,
                    "point": dict(point or {}),
                    "sample": sample,
                    "seed": 0,
                    "text": text,
                    "token_ids": [1] * len(text),
                    "logprobs": {"formula": -1.0},
                    "finish_reason": "stop",
                    "run": "r",
                }
                stream.write(json.dumps(row) + "\n")
    return path


def write_judge(path: Path, address: str, *, kind: bool = False, **settings: object) -> Path:
    """A judge in a file of its own, or with `kind` as the scorer `judged`."""
    keys = {"url": address, "model": "m", "criterion": "overall", **settings}
    path.write_text(json.dumps({"judged": {"kind": "judge", **keys}} if kind else keys))
    return path
