"""`arith explain`: what each operand said of every token of a text, and what it added to the formula."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from arith.characters import stray_surrogate
from arith.cli.failures import ends_well, put, say
from arith.cli.flags import MODEL, PARAM, PARAMS, params_of, sampling_flags, sampling_of, with_models
from arith.cli.loading import load
from arith.cli.output import refuse_input
from arith.errors import OptionError, SpecError
from arith.prompts_file import PromptLine
from arith.results_file import check_writable
from arith.spec import Spec
from arith.whole_file import write_whole

if TYPE_CHECKING:
    from arith.runtime.explaining.explanation import Explanation

WIDTH = 200  # characters of a line that goes to a file or a pipe


@ends_well
@sampling_flags
def explain(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    prompt: Annotated[str, typer.Option(help="the prompt")],
    text: Annotated[
        str | None, typer.Option(help="the text to explain; the formula writes one when left out")
    ] = None,
    base: Annotated[str | None, typer.Option(help="operand to compare with; the first when left out")] = None,
    top: Annotated[int, typer.Option(help="likeliest tokens to give at each place")] = 10,
    by: Annotated[
        str, typer.Option(metavar="NAME", help="what colours the text: kl, or an operand: its contribution")
    ] = "kl",
    html: Annotated[Path | None, typer.Option(help="page to write, one file that needs no other")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="file to write all numbers to")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that exist")] = False,
    model: Annotated[list[str] | None, MODEL] = None,
    param: Annotated[list[str] | None, PARAM] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
    **sampling: Any,
) -> None:
    """Explain a text token by token: each operand's log-probability, its weighted contribution, what the base
    alone would have chosen, and KL(formula‖base)."""
    document = with_models(Spec.load(spec), model)
    params = params_of(document, param, params_file)
    options = options_of(document, text, sampling)
    for path in (html, json_file):
        if path is not None:
            check_output(path, (spec, params_file), overwrite)
    check_names(document, base, by)
    if top < 1:
        raise OptionError(f"--top {top}: it has to be at least 1")
    engine = load(document, [PromptLine("--prompt", prompt, completion=text)], max_rows=1, device=device)
    found = engine.explain(prompt, text, params=params, base=base, top=top, **options)
    show(found, by)
    if json_file is not None:
        write_json(json_file, found)
        say(f"written: {json_file}")
    if html is not None:
        from arith.study.explanation_page import write_explanation_page

        say(f"written: {write_explanation_page(html, found)}")


def options_of(document: Spec, text: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The sampling options of the one text that is to be written; none for a text that is given.

    Raises `OptionError` for flags that nothing comes of, and for a text that isn't UTF-8.
    """
    given = [name for name, value in flags.items() if value is not None]
    if text is not None:
        if given:
            raise OptionError(f"--{given[0].replace('_', '-')} is about writing a text, and --text gives one")
        if (stray := stray_surrogate(text)) is not None:
            raise OptionError(f"--text holds `{stray}`, which stands for no character")
        return {}
    if flags["num_return_sequences"] not in (None, 1):
        raise OptionError("one text is explained at a time", "leave --num-return-sequences out")
    return sampling_of(document, {**flags, "num_return_sequences": 1}).model_dump()


def check_output(path: Path, inputs: tuple[Path | None, ...], overwrite: bool) -> None:
    """Raises `SpecError` for a file that can't be written, or exists and isn't to be replaced."""
    refuse_input(path, inputs)
    check_writable(path)
    if path.exists() and not overwrite:
        raise SpecError(f"{path}: the file exists already", "--overwrite replaces it")


def check_names(document: Spec, base: str | None, by: str) -> None:
    """Raises `OptionError` for an operand or a term that the formula doesn't have."""
    from arith.language.terms import terms_of
    from arith.runtime.explaining.explain import chosen_base
    from arith.study.explanation_text import check_colour

    formula = document.formula()
    chosen_base(formula, base)
    check_colour(by, [term.name for term in terms_of(formula.program)])


def show(explanation: "Explanation", by: str) -> None:
    """The coloured text and the table on standard output."""
    from arith.study.explanation_text import rendered

    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if is_terminal else WIDTH)
    with console.capture() as captured:
        console.print(rendered(explanation, by))
    put(captured.get(), end="")


def write_json(path: Path, explanation: "Explanation") -> None:
    """Writes all numbers as one JSON object. Raises `SpecError` where the file can't be written."""
    content = json.dumps(explanation.as_data(), ensure_ascii=False, allow_nan=False)
    try:
        write_whole(path, content + "\n")
    except OSError as error:
        raise SpecError(f"{path}: can't be written: {(error.strerror or str(error)).lower()}") from None
