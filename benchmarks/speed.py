"""What formulas cost, against plain transformers and against what the machine can do.

    python -m benchmarks.speed [--only NAME ...] [--quick] [--shape 7B] [--rows 1 4 16] [--repeats 5]

Everything is run in turn with what it is compared with, in one process and after a warm-up, so that a slow
moment of the machine hits both. Texts never end early. Prints a Markdown table of medians, with the range of
the ratios, and as the last line one JSON object.
"""

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

from arith.operands.loading import resolve_device
from arith.runtime.measuring import Figure, heading, line
from benchmarks.comparisons.adapters import adapters
from benchmarks.comparisons.bandwidth import bandwidth
from benchmarks.comparisons.compiling import compiling
from benchmarks.comparisons.drafts import drafts
from benchmarks.comparisons.floor import floor
from benchmarks.comparisons.generate import generate
from benchmarks.comparisons.growth import growth
from benchmarks.comparisons.guidance import guidance
from benchmarks.comparisons.one_model import one_model
from benchmarks.comparisons.padding import padding
from benchmarks.comparisons.products import products
from benchmarks.comparisons.small_drafts import small_drafts
from benchmarks.subject import DEMO, Extent, Subject
from benchmarks.synthetic import SHAPES, synthetic

Comparison = Callable[[Subject, Extent], Iterator[Figure]]

COMPARISONS: dict[str, Comparison] = {
    "floor": floor,
    "generate": generate,
    "products": products,
    "guidance": guidance,
    "one-model": one_model,
    "adapters": adapters,
    "drafts": drafts,
    "small-drafts": small_drafts,
    "padding": padding,
    "growth": growth,
    "compiling": compiling,
    "bandwidth": bandwidth,
}
WITH_MEANING = ("drafts", "small-drafts", "padding")  # of random weights these tell nothing


def parsed() -> argparse.Namespace:
    """The command line."""
    listed = "\n".join(f"  {name:<13} {compare.__doc__}" for name, compare in COMPARISONS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\ncomparisons:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS), metavar="NAME")
    small = "a small form: 1 and 4 rows, 2 operands, 8 tokens, one repeat"
    parser.add_argument("--quick", action="store_true", help=small)
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this size, on an accelerator")
    parser.add_argument("--dtype", help="where both sides have the same [float32; bfloat16 with --shape]")
    parser.add_argument("--rows", type=positive, nargs="+", help="rows of a batch [1 4 16]")
    parser.add_argument(
        "--operands", type=positive, nargs="+", help="operands of the floor's formulas [2 3 4]"
    )
    parser.add_argument("--tokens", type=positive, help="new tokens of a text [32]")
    parser.add_argument("--repeats", type=positive, help="pairs of measurements [5]")
    return parser.parse_args()


def positive(text: str) -> int:
    """The number of a flag. Raises `ValueError` for less than 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def extent_of(arguments: argparse.Namespace) -> Extent:
    """What the command line says of how much is measured."""
    quick = arguments.quick
    return Extent(
        rows=tuple(arguments.rows or ((1, 4) if quick else (1, 4, 16))),
        operands=tuple(arguments.operands or ((2,) if quick else (2, 3, 4))),
        tokens=arguments.tokens or (8 if quick else 32),
        repeats=arguments.repeats or (1 if quick else 5),
        quick=quick,
    )


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    names = [one for one in told.read_text().splitlines() if "model name" in one] if told.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def main() -> None:
    arguments, device = parsed(), resolve_device(None)
    extent = extent_of(arguments)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    skipped: list[str] = []
    with ExitStack() as stack:
        subject = Subject("SmolLM2-135M", DEMO, device, arguments.dtype or "float32", synthetic=False)
        if arguments.shape is not None:
            if device.type == "cpu":
                said = f"--shape {arguments.shape} needs an accelerator"
                print(f"skipped: {said}", file=sys.stderr)
                print(json.dumps({"model": arguments.shape, "skipped": [said], "figures": []}))
                return
            model = stack.enter_context(synthetic(SHAPES[arguments.shape]))
            subject = Subject(arguments.shape, model, device, arguments.dtype or "bfloat16", synthetic=True)
        print(heading(), flush=True)
        for name in arguments.only:
            if subject.synthetic and name in WITH_MEANING:
                skipped.append(f"{name} needs a model whose texts mean something")
                print(f"skipped: {skipped[-1]}", file=sys.stderr)
                continue
            started = time.perf_counter()
            for figure in COMPARISONS[name](subject, extent):
                figures.append(figure)
                print(line(figure.cells()), flush=True)
            gc.collect()
            seconds[name] = round(time.perf_counter() - started, 1)
    machine = {
        "model": subject.name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": seconds,
        "skipped": skipped,
    }
    print(json.dumps({**machine, "figures": [figure.as_data() for figure in figures]}))


if __name__ == "__main__":
    main()
