"""How a run goes, in lines for the person who waits."""

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from trainers.output.metrics import Report, told

Say = Callable[[str], None]
_SHOWN = ("loss", "accuracy", "margin", "chosen_log_prob", "rejected_log_prob", "chosen_reward")


class Progress(TrainerCallback):
    """Says each report in one line, with the steps done and the time left."""

    def __init__(self, say: Say):
        self._say = say
        self._start = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._start = time.monotonic()
        self._first = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        report = told(state.global_step, logs or {})
        if report is None:
            return
        line = in_words(report, state.max_steps)
        done = state.global_step - self._first
        if done and "loss" in report:
            left = (time.monotonic() - self._start) / done * (state.max_steps - state.global_step)
            line += f", {_duration(left)} left"
        self._say(line)


def in_words(report: Report, steps: int) -> str:
    """A report in one line."""
    prefix = "" if "loss" in report else "eval_"
    figures = [
        f"{name.replace('_', ' ')} {report[prefix + name]:.4g}" for name in _SHOWN if prefix + name in report
    ]
    if "tokens_per_second" in report:
        figures.append(f"{report['tokens_per_second']:,.0f} tokens/s")
    kind = "validation" if prefix else "training"
    return f"step {report['step']}/{steps} {kind}: {', '.join(figures)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
