"""What a sweep costs as rows of one engine, against a run for each of its points.

    python -m benchmarks.sweep [--only singles processes] [--tokens 16] [--repeats 3] [--model MODEL]

16 points of `base + h*helpful + s*harmless` over 8 prompts. `singles`: one engine with its models loaded and
room for the whole sweep, called once for all points, and once for each. `processes`: `arith sweep`, and 16
times `arith generate`, from the start of each program to its end. What is compared takes turns, and has the
same random numbers. Prints a Markdown table of medians, with the range of the ratios, and as the last line
one JSON object.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from transformers.utils import logging

from arith import LLM, Engine, Formula
from arith.runtime.measuring import Figure, Target, heading, in_turn, line
from arith.runtime.result import Result
from benchmarks.subject import DEMO, PROMPTS, SYSTEMS

FORMULA = "base + h*helpful + s*harmless"
WEIGHTS = [0.1, 0.4, 0.7, 1.0]  # none is 0: what is saved where an operand doesn't run is not measured
SWEEP = {"h": WEIGHTS, "s": WEIGHTS}
POINTS = [{"h": h, "s": s} for h in WEIGHTS for s in WEIGHTS]
ASKED = PROMPTS[:8]
MAX_ROWS = len(POINTS) * len(ASKED)


def operands(model: str) -> dict[str, dict[str, str]]:
    """The fields of each operand, by its name."""
    systems = zip(("base", "helpful", "harmless"), SYSTEMS, strict=False)
    return {name: {"model": model, "system": system} for name, system in systems}


def rate(work: Callable[[], int]) -> float:
    """Tokens a second of what gives their number."""
    start = time.perf_counter()
    tokens = work()
    return tokens / (time.perf_counter() - start)


def singles(model: str, tokens: int, repeats: int) -> Figure:
    """One engine, called once for all points, or once for each."""
    declared = {name: LLM(**fields) for name, fields in operands(model).items()}
    engine = Engine(Formula(FORMULA, **declared), max_rows=MAX_ROWS, sampling={"max_new_tokens": tokens})

    def count(results: Iterable[Result]) -> int:
        return sum(len(result.token_ids) for result in results)

    ours, theirs = in_turn(
        lambda: rate(lambda: count(engine.sweep(ASKED, SWEEP))),
        lambda: rate(lambda: sum(count(engine.generate(ASKED, params=point)) for point in POINTS)),
        repeats=repeats,
    )
    return figure("16 runs of the same engine", tokens, ours, theirs, Target(">=", 1.5))


def processes(model: str, tokens: int, repeats: int) -> Figure:
    """One process for all points, or one for each."""
    content = {"formula": FORMULA, "operands": operands(model), "sampling": {"max_new_tokens": tokens}}
    ours: list[float] = []
    theirs: list[float] = []
    with TemporaryDirectory(prefix="arith-bench-") as name:
        folder = Path(name)
        (folder / "one.json").write_text(json.dumps({**content, "params": POINTS[0]}))
        (folder / "sweep.json").write_text(json.dumps({**content, "sweep": SWEEP}))
        (folder / "prompts.txt").write_text("\n".join(ASKED))

        def whole() -> int:
            called("sweep", folder / "sweep.json", "--out", folder / "swept")
            return written(folder / "swept" / "results.jsonl")

        def each() -> int:
            files = []
            for number, point in enumerate(POINTS):
                files.append(folder / f"{number}.jsonl")
                given = [f"--param={key}={value}" for key, value in point.items()]
                called("generate", folder / "one.json", "--out", files[-1], *given)
            return sum(written(file) for file in files)

        def called(*words: object) -> None:
            given = [*words, "--prompts", folder / "prompts.txt", "--max-rows", MAX_ROWS]
            program = [sys.executable, "-m", "arith", *map(str, given)]
            subprocess.run(program, check=True, capture_output=True)

        for turn in range(repeats):
            for way, found in ((whole, ours), (each, theirs))[:: 1 if turn % 2 == 0 else -1]:
                found.append(rate(way))
    return figure("16 fresh processes", tokens, ours, theirs, Target(">=", 5))


def written(file: Path) -> int:
    """The tokens of the rows in a results file, which goes."""
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    file.unlink()
    return sum(len(row["token_ids"]) for row in rows)


def figure(
    measured: str, tokens: int, ours: Sequence[float], theirs: Sequence[float], target: Target
) -> Figure:
    """The rates of a sweep against those of something else."""
    case = f"{len(POINTS)} points, {len(ASKED)} prompts, {tokens} tokens"
    return Figure.of(measured, case, "tokens/s", ours, theirs, target)


COMPARISONS: Mapping[str, Callable[[str, int, int], Figure]] = {"singles": singles, "processes": processes}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--tokens", type=int, default=16, help="new tokens of a text [16]")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements [3]")
    parser.add_argument("--model", default=DEMO, help="a model that follows a system prompt [SmolLM2 135M]")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    print(heading(), flush=True)
    figures = []
    for name in arguments.only:
        figures.append(COMPARISONS[name](arguments.model, arguments.tokens, arguments.repeats))
        print(line(figures[-1].cells()), flush=True)
    machine = {
        "model": arguments.model,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps({**machine, "figures": [one.as_data() for one in figures]}))


if __name__ == "__main__":
    main()
