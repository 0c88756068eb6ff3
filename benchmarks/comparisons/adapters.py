"""LoRA operands on one backbone."""

from collections.abc import Iterator, Sequence
from functools import partial

from transformers import PreTrainedModel

from arith import Formula
from arith.runtime.measuring import Figure, Spread, Target, in_turn
from arith.runtime.trial import forwards_ms, weight_bytes
from benchmarks.made_models import made_in, save_lora
from benchmarks.subject import Extent, Subject

TEXT = "base + 0.5*first + 0.5*second"
MEMORY, TIME = Target("<=", 1.05), Target("<=", 1.15)


def adapters(subject: Subject, extent: Extent) -> Iterator[Figure]:
    """A base and two LoRA reward models: memory against the base alone, a step against the same lanes without
    adapters, and both against three separate models."""
    with made_in() as folder:
        first, second = (save_lora(subject, folder / name, seed) for seed, name in enumerate(("one", "two")))
        dtype = subject.dtype
        adapted = Formula(
            TEXT,
            base=subject.operand(0, dtype),
            first=subject.operand(1, dtype, adapter=first),
            second=subject.operand(2, dtype, adapter=second),
        )
        bare = Formula(
            TEXT,
            base=subject.operand(0, dtype),
            first=subject.operand(1, dtype),
            second=subject.operand(2, dtype),
        )
        ours, without = (subject.trial(formula, extent.tokens) for formula in (adapted, bare))
        # An adapter merged into a model of its own leaves it the size and the speed of the base.
        models = [subject.plain(dtype) for _ in range(3)]
        yield memory("the base alone", ours.weight_bytes(), without.weight_bytes(), MEMORY)
        yield memory("three models", ours.weight_bytes(), weight_bytes(*models), None)
        length, steps = ours.prompt_length(), extent.tokens - 1
        for rows in extent.rows:
            mine, plain, theirs = in_turn(
                partial(ours.step_ms, rows),
                partial(without.step_ms, rows),
                partial(_each_ms, models, rows, length, steps),
                repeats=extent.repeats,
            )
            case = f"base + 2 LoRA, B = {rows}, {dtype}"
            yield Figure.of("the lanes without adapters", case, "ms a step", mine, plain, TIME)
            yield Figure.of("three models' forwards", case, "ms a step", mine, theirs)


def _each_ms(models: Sequence[PreTrainedModel], rows: int, length: int, steps: int) -> float:
    """Milliseconds for a plain forward of each of the models over so many rows."""
    return sum(forwards_ms(model, rows, length, steps) for model in models)


def memory(measured: str, ours: int, baseline: int, target: Target | None) -> Figure:
    """The memory of weights, in MiB."""
    ratio = ours / baseline
    return Figure(
        measured,
        "weights of base + 2 LoRA",
        "MiB",
        ours / 2**20,
        baseline / 2**20,
        Spread(ratio, ratio, ratio),
        target,
    )
