"""What training costs, against TRL: the same data, model, adapter, batches, dtype and tokens.

    python -m benchmarks.training [--data FILE --source hh] [--steps 8] [--batch 4] [--repeats 3]

TRL is given the rendered prompts and the bare answers as plain text, so that both score the same tokens; its
contrastive preference trainer without its imitating part has the loss of an ARM. Before anything is timed the
losses of one batch are compared. Speed is measured in turn in one process, each run going through the same
rows once; memory in a process for each side. Without --data the texts are random words, of lengths like those
of dialogues. Prints a Markdown table, and as the last line one JSON object.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Self

import psutil
import torch
import yaml

from arith.operands.loading import resolve_device
from arith.operands.quiet import quiet
from benchmarks.subject import DEMO
from benchmarks.trained_by_arith import ByArith
from benchmarks.trained_by_trl import ByTrl

OBJECTIVES = ("arm", "dpo")
HEADINGS = ("objective", "loss, ours / TRL's", "pairs/s", "times as fast", "peak memory of a run")
SIDES: dict[str, Callable[..., Any]] = {"arith": ByArith, "trl": ByTrl}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="preference data; random texts when left out")
    parser.add_argument("--source", default="preference", help="its format [preference]")
    parser.add_argument("--only", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps of a run [8]")
    parser.add_argument("--batch", type=int, default=4, help="pairs of a step [4]")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs [3]")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def random_pairs(count: int, path: Path) -> None:
    """Dialogues of random words: a prompt of 20 to 200 words, two answers of 5 to 120."""
    chosen = random.Random(0)
    words = ["the", "rain", "is", "water", "and", "people", "ask", "why", "it", "falls", "from", "clouds"]

    def text(least: int, most: int) -> str:
        return " ".join(chosen.choices(words, k=chosen.randint(least, most)))

    rows = [{"prompt": text(20, 200), "chosen": text(5, 120), "rejected": text(5, 120)} for _ in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(arguments: argparse.Namespace, objective: str, folder: Path) -> Path:
    """The recipe of the runs, in the folder."""
    data = arguments.data and str(Path(arguments.data).resolve())
    if data is None:
        data = str(folder / "pairs.jsonl")
        random_pairs(arguments.steps * arguments.batch, Path(data))
    content = {
        "objective": {"name": objective, "beta": 0.1},
        "operand": {"model": DEMO, "dtype": arguments.dtype},
        "adapter": {"r": 8, "alpha": 16, "targets": ["q_proj", "k_proj", "v_proj"]},
        "data": {"source": arguments.source, "train": data, "max_length": 1024},
        "training": {
            "per_device_train_batch_size": arguments.batch,
            "max_steps": arguments.steps,
            "save_strategy": "no",
            "logging_strategy": "no",
        },
        "output": str(folder / "out"),
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def compared(arguments: argparse.Namespace, objective: str) -> dict[str, Any]:
    """Losses, speeds and memory of both sides."""
    with tempfile.TemporaryDirectory() as folder:
        path = recipe(arguments, objective, Path(folder))
        rows = arguments.steps * arguments.batch
        sides = {name: make(path, rows) for name, make in SIDES.items()}
        losses = {name: side.loss(arguments.batch) for name, side in sides.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(arguments.repeats + 1):
            for name, side in sides.items():
                started = time.perf_counter()
                side.run()
                if repeat:  # the first is a warm-up
                    seconds[name].append(time.perf_counter() - started)
    speeds = {name: rows / median(taken) for name, taken in seconds.items()}
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds["arith"], seconds["trl"], strict=True))
    return {
        "objective": objective,
        "losses": losses,
        "pairs_per_second": speeds,
        "times_as_fast": median(ratios),
        "range": [ratios[0], ratios[-1]],
        "peak_bytes": {name: peak_of(name, objective) for name in sides},
    }


def peak_of(side: str, objective: str) -> int:
    """The most memory that a process of its own takes for the run."""
    command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], "--memory-of", side]
    done = subprocess.run([*command, "--only", objective], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def measure_memory(arguments: argparse.Namespace) -> int:
    """Bytes that a run of one side takes beyond the loaded model: of the device, or of this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = recipe(arguments, arguments.only[0], Path(folder))
        side = SIDES[arguments.memory_of](path, arguments.steps * arguments.batch)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            side.run()
            return torch.cuda.max_memory_allocated() - before
        with ResidentPeak() as peak:
            side.run()
        return peak.bytes


class ResidentPeak:
    """The most resident memory of this process during a block, beyond that at its beginning."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look)

    def _look(self) -> None:
        process = psutil.Process()
        start = process.memory_info().rss
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, process.memory_info().rss - start)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()


def main() -> None:
    arguments = parsed()
    warnings.simplefilter("ignore")
    with quiet():
        if arguments.memory_of is not None:
            print(measure_memory(arguments))
            return
        print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
        found = []
        for objective in arguments.only:
            one = compared(arguments, objective)
            found.append(one)
            print(line(one), flush=True)
    machine = {"device": str(resolve_device(None)), "threads": torch.get_num_threads()}
    print(json.dumps({**machine, "comparisons": found}))


def line(one: dict[str, Any]) -> str:
    """A comparison as a line of the table."""
    losses, speeds, peaks = one["losses"], one["pairs_per_second"], one["peak_bytes"]
    low, high = one["range"]
    cells = [
        one["objective"],
        f"{losses['arith']:.5f} / {losses['trl']:.5f}",
        f"{speeds['arith']:.2f} / {speeds['trl']:.2f}",
        f"{one['times_as_fast']:.2f} ({low:.2f} to {high:.2f})",
        f"{peaks['arith'] / 2**20:,.0f} / {peaks['trl'] / 2**20:,.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
