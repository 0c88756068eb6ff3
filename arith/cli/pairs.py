"""`arith pairs`: preference data written by formulas, a chosen and a rejected answer to each prompt."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.cli.failures import ends_well, say
from arith.cli.flags import MODEL, PARAM, PARAMS, params_of, sampling_flags, sampling_of, with_models
from arith.cli.loading import load
from arith.cli.pair_files import PairFiles, pair_row, refuse_own_columns
from arith.cli.progress import RowProgress, say_how_it_went
from arith.cli.rows import heads, missing_rows, run_of
from arith.errors import OptionError
from arith.prompts_file import read_prompts
from arith.results_file import Row
from arith.spec import Spec

if TYPE_CHECKING:
    from trainers.pairs import Pair

Side = tuple[str | None, str | None]  # formula and system prompt, each None for what the specification says

FORMULA = "what writes the {} answers [default: the specification's formula]"
SYSTEM = "system prompt of all language models that write the {} answers"


@ends_well
@sampling_flags
def pairs(
    spec: Annotated[Path, typer.Argument(help="YAML file with a formula and its operands")],
    prompts: Annotated[
        Path, typer.Option(help="file of prompts: .jsonl (objects with `prompt`) or .txt (one a line)")
    ],
    out: Annotated[Path, typer.Option(help="JSON Lines file to append each finished pair to")],
    chosen: Annotated[str | None, typer.Option(help=FORMULA.format("chosen"), metavar="FORMULA")] = None,
    rejected: Annotated[str | None, typer.Option(help=FORMULA.format("rejected"), metavar="FORMULA")] = None,
    chosen_system: Annotated[str | None, typer.Option(help=SYSTEM.format("chosen"))] = None,
    rejected_system: Annotated[str | None, typer.Option(help=SYSTEM.format("rejected"))] = None,
    keep_cut: Annotated[
        bool, typer.Option("--keep-cut", help="keep pairs with a side that was cut off before its end")
    ] = False,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the pairs missing from --out")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace --out if it exists")] = False,
    max_rows: Annotated[int | None, typer.Option(help="rows in one batch at most")] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
    **sampling: Any,
) -> None:
    """Write contrast pairs: for each prompt an answer to choose and one to reject, as preference data.

    The sides differ in their formula, in their system prompt, or in both. Pairs that nothing should be
    trained on (an empty side, equal sides, a side cut off) go to a file beside --out.
    """
    from arith.operands.fingerprint import fingerprints
    from trainers.pairs import contrast_pairs

    document = with_models(Spec.load(spec), model)
    options = sampling_of(document, sampling)
    both = contrasted(document, (chosen, chosen_system), (rejected, rejected_system))
    params = params_of_sides(both, param, params_file)
    lines = read_prompts(prompts)
    refuse_own_columns(lines)
    made = heads(lines, params)
    matters = options.model_dump(exclude={"num_return_sequences"})
    matters |= {"keep_cut": keep_cut, "weights": fingerprints(both.operands)}
    inputs = (spec, prompts, params_file)
    with PairFiles.open(out, inputs, run_of(both, matters), resume=resume, overwrite=overwrite) as files:
        missing = missing_rows(made, options.num_return_sequences, files.done)
        if not missing:
            say(f"nothing to do: all pairs are in {files.kept.path} or {files.flawed.path} already")
            return
        engine = load(both, lines, max_rows=max_rows, device=device)
        found = contrast_pairs(
            engine,
            [line.whole for line in lines],
            params=params,
            places=[line.place for line in lines],
            wanted=missing,
            **options.model_dump(),
        )
        total = len(lines) * options.num_return_sequences
        with RowProgress(total, done=total - len(missing), noun="pair") as progress:
            write_pairs(found, made, files, keep_cut, progress)
        say_how_it_went(engine)


def contrasted(document: Spec, chosen: Side, rejected: Side) -> Spec:
    """The specification of both sides in one formula. It drafts nothing.

    Raises `FormulaError`, and `OperandError` for a system prompt that a template has no place for.
    """
    from trainers.pairs import contrast, with_system

    formulas = []
    for text, system in (chosen, rejected):
        formula = (document if text is None else replace(document, text=text)).formula()
        formulas.append(formula if system is None else with_system(formula, system))
    both = Spec.of(contrast(*formulas), document.sampling)
    return replace(both, source=document.source, compile=document.compile)


def params_of_sides(both: Spec, assignments: Iterable[str] | None, file: Path | None) -> dict[str, float]:
    """The values of the sides' own parameters. Raises what `params_of` raises, and `OptionError` for a value
    of one that tells the sides apart."""
    from arith.language.alternatives import picks
    from trainers.pairs import SIDES

    values = params_of(both, assignments, file)
    for name in map(picks, SIDES):
        if values[name] != both.params[name]:
            raise OptionError(f"`{name}` tells the sides of a pair apart: its value can't be given")
    return {name: value for name, value in values.items() if name not in map(picks, SIDES)}


def write_pairs(
    found: Iterable["Pair"], heads: Sequence[Row], files: PairFiles, keep_cut: bool, progress: RowProgress
) -> None:
    """Write each pair when it is finished, and say at the end how many there were and what became of them."""
    from trainers.pairs import CUT

    flaws: Counter[str] = Counter()
    count = 0
    try:
        for pair in found:
            flaw = None if keep_cut and pair.flaw == CUT else pair.flaw
            files.append(pair_row(pair, heads[pair.index]), flaw)
            if flaw is None:
                count += 1
            else:
                flaws[flaw] += 1
            progress.advance(len(pair.chosen.token_ids) + len(pair.rejected.token_ids))
    finally:
        say(f"{progress.summary()}; {count} of them in {files.kept.path}")
        if flaws:
            causes = ", ".join(f"{flaw}: {number}" for flaw, number in flaws.most_common())
            say(f"left out, and in {files.flawed.path}: {causes}")
