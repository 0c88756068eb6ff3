"""The figures of a run on disk: `metrics.jsonl`, one object a report."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from arith.errors import SpecError
from arith.whole_file import write_whole

METRICS_NAME = "metrics.jsonl"
# What transformers adds that says nothing of the training, or says it twice.
_NOISE = ("_runtime", "_samples_per_second", "_steps_per_second", "total_flos", "model_preparation_time")

Report = dict[str, Any]


class MetricsFile(TrainerCallback):
    """Appends each report to the file of a folder, of a run that begins behind `step`."""

    def __init__(self, folder: Path, step: int):
        self._path = folder / METRICS_NAME
        # A run that goes on repeats the reports behind its checkpoint.
        kept = [report for report in read_metrics(folder) if step and report["step"] <= step]
        write_whole(self._path, "".join(map(_line, kept)))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        report = told(state.global_step, logs or {})
        if report is not None and state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(report))


def told(step: int, logs: Mapping[str, Any]) -> Report | None:
    """What a report of transformers' trainer says of the training; None for its last one, of run times."""
    if "train_runtime" in logs:
        return None
    return {"step": step} | {name: value for name, value in logs.items() if not name.endswith(_NOISE)}


def read_metrics(folder: Path) -> list[Report]:
    """The reports of a run so far; an unfinished last line is none. Raises `SpecError` for another line that
    is none."""
    path = folder / METRICS_NAME
    if not path.is_file():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return [_report(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _report(line: bytes, place: str) -> Report:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("step"), int):
        raise SpecError(f"{place}: not a report of a training run", "remove this line; the others are kept")
    return found


def _line(report: Report) -> str:
    """JSON has no infinities and no NaN: they are written as null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in report.items()
    }
    return json.dumps(finite, ensure_ascii=False) + "\n"
