"""`arith generate`: text from a formula, streamed for one row, as JSON Lines for many."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.cli.failures import ends_well, put, say
from arith.cli.flags import (
    COMPILE,
    DRAFT_TOKENS,
    MODEL,
    PARAM,
    PARAMS,
    SPECULATE,
    params_of,
    sampling_flags,
    sampling_of,
    with_models,
    with_speed,
)
from arith.cli.loading import load
from arith.cli.output import results_file, write_row
from arith.cli.progress import RowProgress, say_how_it_went
from arith.cli.rows import heads, missing_rows, run_of
from arith.errors import OptionError
from arith.prompts_file import PromptLine, read_piped_prompts, read_prompts
from arith.results_file import ResultsFile, finite_or_none
from arith.runtime.options import Sampling
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.runtime import Engine, Piece, Result


@dataclass(frozen=True)
class Run:
    """One call of the command, checked: what to generate, how, and the head of each prompt's rows."""

    lines: list[PromptLine]
    heads: list[dict[str, object]]
    params: dict[str, float]
    sampling: Sampling

    def row(self, result: "Result", index: int) -> dict[str, object]:
        """The result of the prompt at `index` as a row of JSON Lines."""
        totals = {name: finite_or_none(sum(values)) for name, values in result.logprobs.items()}
        return {
            **self.heads[index],
            "sample": result.sample,
            "seed": result.seed,
            "text": result.text,
            "token_ids": result.token_ids,
            "finish_reason": result.finish_reason,
            "logprobs": totals,
        }


@ends_well
@sampling_flags
def generate(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    prompt: Annotated[list[str] | None, typer.Option(help="one prompt")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="file of prompts: .jsonl (objects with `prompt`) or .txt (one a line)")
    ] = None,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    out: Annotated[Path | None, typer.Option(help="JSON Lines file to append each finished row to")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the rows missing from --out")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
    speculate: Annotated[str | None, SPECULATE] = None,
    draft_tokens: Annotated[str | None, DRAFT_TOKENS] = None,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    compile: Annotated[str | None, COMPILE] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
    **sampling: Any,
) -> None:
    """Write text from a formula. Prompts come from --prompt, --prompts, or standard input, one a line.

    One row is streamed to standard output as text. Several are written as JSON Lines in the order in which
    they finish: to --out, or to standard output without it.
    """
    from arith.operands.fingerprint import fingerprints

    document = with_speed(with_models(Spec.load(spec), model), compile, speculate, draft_tokens)
    options = sampling_of(document, sampling)
    params = params_of(document, param, params_file)
    lines = choose_prompts(prompt, prompts)
    run = Run(lines, heads(lines, params), params, options)
    matters = options.model_dump(exclude={"num_return_sequences"})
    digest = run_of(document, {**matters, "weights": fingerprints(document.operands)})
    inputs = (spec, prompts, params_file)
    with results_file(out, inputs, digest, resume=resume, overwrite=overwrite) or nullcontext() as file:
        missing = missing_rows(run.heads, options.num_return_sequences, set() if file is None else file.done)
        if not missing:
            say(f"nothing to do: all rows are in {out} already")
            return
        engine = load(document, lines, max_rows=max_rows, device=device)
        if len(lines) * options.num_return_sequences == 1:
            stream_row(engine, run, file)
        else:
            write_rows(engine, run, file, missing)
        say_how_it_went(engine)


def choose_prompts(prompt: list[str] | None, prompts: Path | None) -> list[PromptLine]:
    """The prompts of the one source that is given: `--prompt`, `--prompts`, or lines on standard input."""
    if prompt and prompts is not None:
        raise OptionError("--prompt and --prompts are both given: give one")
    if prompt and len(prompt) > 1:
        raise OptionError(
            f"--prompt is given {len(prompt)} times", "several prompts go into a file, or a pipe"
        )
    if prompt:
        return [PromptLine("--prompt", prompt[0])]
    if prompts is not None:
        return read_prompts(prompts)
    if sys.stdin is None or sys.stdin.isatty():
        raise OptionError("no prompt", "use --prompt TEXT or --prompts FILE, or pipe prompts in, one a line")
    return read_piped_prompts(sys.stdin)


def stream_row(engine: "Engine", run: Run, file: ResultsFile | None) -> None:
    """Show the one row's text as it comes; keep the finished row in `file`."""
    line = run.lines[0]
    options = run.sampling.model_dump()
    pieces = engine.stream([line.whole], params=run.params, places=[line.place], **options)
    for piece in shown(pieces):
        if piece.result is not None:
            if file is not None:
                file.append(run.row(piece.result, 0))
            say(f"{len(piece.result.token_ids)} tokens, {piece.result.tokens_per_second:.1f} tokens/s")


def shown(pieces: "Iterable[Piece]") -> "Iterator[Piece]":
    """The pieces of a text, each put on standard output; the line is ended even if Ctrl-C ends the text."""
    try:
        for piece in pieces:
            put(piece.text, end="" if piece.result is None else "\n")
            yield piece
    except KeyboardInterrupt:
        put("")
        raise


def write_rows(engine: "Engine", run: Run, file: ResultsFile | None, missing: set[tuple[int, int]]) -> None:
    """Write each missing row when it is finished, to `file` or to standard output."""
    total = len(run.lines) * run.sampling.num_return_sequences
    results = engine.as_completed(
        [line.whole for line in run.lines],
        params=run.params,
        places=[line.place for line in run.lines],
        wanted=missing,
        **run.sampling.model_dump(),
    )
    with RowProgress(total, done=total - len(missing)) as progress:
        try:
            for result in results:
                write_row(run.row(result, result.index), file)
                progress.advance(len(result.token_ids))
        except KeyboardInterrupt:
            if file is not None:
                say("--resume goes on with the rest")
            raise
        finally:
            say(progress.summary() + ("" if file is None else f", in {file.path}"))
