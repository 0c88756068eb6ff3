"""`arith score`: the exact log-likelihood of given completions under a formula."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from arith.cli.failures import ends_well, say
from arith.cli.flags import MODEL, PARAM, PARAMS, params_of, with_models
from arith.cli.loading import load
from arith.cli.output import results_file, write_row
from arith.cli.progress import RowProgress
from arith.cli.rows import heads, run_of
from arith.prompts_file import PromptLine, read_prompts
from arith.results_file import finite_or_none, row_key
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.runtime import Engine

CHUNK = 64  # lines scored between two writes
WIDTH = 40  # characters of prompt and completion in the table

Row = dict[str, object]


@ends_well
def score(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    prompts: Annotated[Path, typer.Option(help=".jsonl file of objects with `prompt` and `completion`")],
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    end: Annotated[bool, typer.Option("--end", help="score the token that ends the turn as well")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON Lines file to append each scored row to")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the rows missing from --out")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Score completions: their log-likelihood under the formula and under each operand, in nats.

    Rows go to --out as JSON Lines; without it a terminal shows a table, and a pipe gets JSON Lines.
    """
    from arith.operands.fingerprint import fingerprints

    document = with_models(Spec.load(spec), model)
    params = params_of(document, param, params_file)
    lines = read_prompts(prompts, completions=True)
    run = run_of(document, {"end": end, "weights": fingerprints(document.operands)})
    with (
        results_file(out, (spec, prompts, params_file), run, resume=resume, overwrite=overwrite)
        or nullcontext() as file
    ):
        done = set() if file is None else file.done
        pairs = list(zip(lines, heads(lines, params), strict=True))
        missing = [pair for pair in pairs if row_key(pair[1]) not in done]
        if not missing:
            say(f"nothing to do: all rows are in {out} already")
            return
        engine = load(document, lines, max_rows=max_rows, device=device, end=end, writes=False)
        with RowProgress(len(lines), done=len(lines) - len(missing)) as progress:
            rows = scored(engine, missing, params, end, progress)
            if file is None and sys.stdout is not None and sys.stdout.isatty():
                show(list(rows))
            else:
                for row in rows:
                    write_row(row, file)
        say(progress.summary())


def scored(
    engine: "Engine",
    missing: list[tuple[PromptLine, Row]],
    params: dict[str, float],
    end: bool,
    progress: RowProgress,
) -> Iterator[Row]:
    """Each line's row of JSON Lines, in order."""
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        prompts = [line.whole for line, _ in chunk]
        completions = [line.completion or "" for line, _ in chunk]
        places = [line.place for line, _ in chunk]
        scores = engine.score(prompts, completions, params=params, end=end, places=places)
        for (_, head), one in zip(chunk, scores, strict=True):
            totals = {name: finite_or_none(total) for name, total in one.totals.items()}
            yield {**head, "tokens": len(one.token_ids), "logprobs": totals}
            progress.advance(len(one.token_ids))


def show(rows: list[Row]) -> None:
    """The rows as a table on standard output."""
    table = Table("prompt", "completion", "tokens")
    names = list(rows[0]["logprobs"])  # type: ignore[call-overload]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        totals = row["logprobs"]
        assert isinstance(totals, dict)
        figures = ["-inf" if totals[name] is None else f"{totals[name]:.3f}" for name in names]
        table.add_row(shortened(row["prompt"]), shortened(row["completion"]), str(row["tokens"]), *figures)
    Console().print(table, markup=False)


def shortened(value: object) -> str:
    """Text on one line, or its beginning."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
