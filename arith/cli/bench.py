"""`arith bench`: what a specification costs on this machine, against plain forwards of its models."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from arith.cli.failures import ends_well, put
from arith.cli.flags import (
    COMPILE,
    DRAFT_TOKENS,
    MODEL,
    PARAM,
    PARAMS,
    SPECULATE,
    params_of,
    with_models,
    with_speed,
)
from arith.cli.loading import load
from arith.errors import OptionError
from arith.prompts_file import PromptLine, read_prompts
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.runtime.measuring import Figure
    from arith.runtime.trial import Timing, Trial

PROMPT = "Explain in a few sentences what a compiler does, and why programmers rely on it."
FEWEST_TOKENS = 2  # the first one belongs to the prompt


@ends_well
def bench(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    prompts: Annotated[
        Path | None, typer.Option(help="file of prompts, .jsonl or .txt: rows take them in turn")
    ] = None,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    rows: Annotated[
        list[int] | None, typer.Option(help="rows at once; may be repeated [default: 1, 4]")
    ] = None,
    tokens: Annotated[int, typer.Option(help="tokens of each row")] = 32,
    repeats: Annotated[int, typer.Option(help="measurements of each figure, after a warm-up")] = 3,
    speculate: Annotated[str | None, SPECULATE] = None,
    draft_tokens: Annotated[str | None, DRAFT_TOKENS] = None,
    compile: Annotated[str | None, COMPILE] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Measure a specification: the time of a step against plain forwards of its models over as many lanes,
    tokens a second, and memory.

    Rows don't end before they have all their tokens. Prints a Markdown table, and as the last line one JSON
    object.
    """
    counts = rows or [1, 4]
    for name, least, values in (
        ("rows", 1, counts),
        ("tokens", FEWEST_TOKENS, [tokens]),
        ("repeats", 1, [repeats]),
    ):
        for value in values:
            if value < least:
                raise OptionError(f"--{name} {value}: it has to be at least {least}")
    document = with_speed(with_models(Spec.load(spec), model), compile, speculate, draft_tokens)
    params = params_of(document, param, params_file)
    lines = [PromptLine("the prompt", PROMPT)] if prompts is None else read_prompts(prompts)
    refuse_beyond_window(document, params, lines, tokens)
    engine = load(document, lines, max_rows=max(counts), device=device)
    from arith.runtime.measuring import heading, line
    from arith.runtime.trial import Trial

    trial = Trial(engine, [one.whole for one in lines], tokens, params)
    put(heading())
    figures = []
    for figure in measured(trial, counts, repeats):
        figures.append(figure.as_data())
        put(line(figure.cells()))
    put(json.dumps({"formula": document.text, "device": str(engine.device), "figures": figures}))


def refuse_beyond_window(
    document: Spec, params: dict[str, float], lines: list[PromptLine], tokens: int
) -> None:
    """Raises `PromptError` for a prompt behind which a context window has no room for so many tokens."""
    from arith.runtime.rows import PromptReader

    places = [one.place for one in lines]
    reader = PromptReader.of(document.formula(), params)
    reader.check([one.whole for one in lines], [tokens] * len(lines), places)


def measured(trial: "Trial", counts: list[int], repeats: int) -> Iterator["Figure"]:
    """The memory of the weights, and what each number of rows takes."""
    from arith.runtime.measuring import Figure

    yield Figure("weights", "language models", "MiB", trial.weight_bytes() / 2**20)
    for rows in counts:
        yield from at_once(trial, rows, repeats)


def at_once(trial: "Trial", rows: int, repeats: int) -> Iterator["Figure"]:
    """A step of so many rows against plain forwards and against the forwards in it, their tokens a second,
    and the memory of their cache."""
    from arith.runtime.measuring import Figure, in_turn

    runs: list[Timing] = []
    own: list[float] = []

    def step_ms() -> float:
        timing, forwards = trial.run_and_forwards_ms(rows)
        runs.append(timing)
        own.append(forwards)
        return timing.step_ms

    trial.engine.stats.reset()
    ours, plain = in_turn(step_ms, partial(trial.plain_step_ms, rows), repeats=repeats)
    case = "1 row" if rows == 1 else f"{rows} rows"
    stats = trial.engine.stats
    drafts = f"{stats.forwards_per_token:.2f} forwards a token" if stats.drafted else ""
    yield Figure.of("plain forwards", case, "ms a step", ours, plain, note=drafts)
    # The first run was the warm-up.
    yield Figure.of("forwards of the same call", case, "ms a step", ours, own[1:], note=drafts)
    yield Figure("whole calls", case, "tokens/s", median(one.rate for one in runs[1:]), note=drafts)
    yield Figure("keys and values", case, "MiB", rows * trial.cache_bytes() / 2**20)
