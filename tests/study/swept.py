"""Folders of a sweep with scores, written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from arith.study.results import read_results

Point = Mapping[str, float | str]


def write_results(
    path: Path, points: Sequence[Point], prompts: Sequence[object], *, samples: int = 1, text: str = "answer"
) -> Path:
    """A sweep's folder with a row for each point, prompt and sample, the rows of a prompt together: its
    path."""
    path.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "prompt_id": number,
            "prompt": prompt,
            "occurrence": 0,
            "point": dict(point),
            "sample": sample,
            "seed": 0,
            "text": f"{text} {number}.{sample} at {dict(point)}",
            "token_ids": [1, 2, 3],
            "logprobs": {"formula": -1.0},
            "finish_reason": "stop",
            "run": "r",
        }
        for number, prompt in enumerate(prompts)
        for point in points
        for sample in range(samples)
    ]
    (path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_scores(path: Path, name: str, scores: Sequence[float | None], scorer: str = "s") -> None:
    """A score for each row, in the order of the results; fewer leave the last rows without one."""
    (path / "scores").mkdir(exist_ok=True)
    rows = read_results(path)
    lines = [
        {
            "prompt_id": row.prompt_id,
            "point": dict(row.point),
            "sample": row.sample,
            "score": score,
            "row": row.key,
            "scorer": scorer,
        }
        for row, score in zip(rows, scores, strict=False)
    ]
    (path / "scores" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
