"""`arith explain`: what each operand said of every token of a text, and what it added to the formula."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.characters import stray_surrogate
from arith.cli.failures import ends_well, put, say
from arith.cli.flags import MODEL, PARAM, PARAMS, params_of, sampling_flags, sampling_of, with_models
from arith.cli.loading import load
from arith.cli.output import console, refuse_input
from arith.errors import OptionError, SpecError
from arith.prompts_file import PromptLine
from arith.results_file import check_writable
from arith.spec import Spec
from arith.whole_file import write_output

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
    if html is not None and json_file is not None and os.path.realpath(html) == os.path.realpath(json_file):
        raise OptionError(f"--html and --json are both {html}", "they need a file each")
    check_names(document, base, by)
    refuse_top(document, top)
    lines = [PromptLine("--prompt", prompt, completion=text)]
    engine = load(document, lines, max_rows=1, device=device, writes=text is None)
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

    Raises `OptionError` for flags that nothing comes of, and for a text that is empty or isn't UTF-8.
    """
    given = [name for name, value in flags.items() if value is not None]
    if text is not None:
        if given:
            raise OptionError(f"--{given[0].replace('_', '-')} is about writing a text, and --text gives one")
        if (stray := stray_surrogate(text)) is not None:
            raise OptionError(f"--text holds `{stray}`, which stands for no character")
        if not text:
            raise OptionError("the text is empty: there is no token to explain")
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


def refuse_top(document: Spec, top: int) -> None:
    """Raises `OptionError` for less than one alternative, or more than the vocabulary has tokens."""
    from arith.runtime.explaining.explain import check_top
    from arith.runtime.models import vocabulary_of

    formula = document.formula()
    bound = formula.bound_operands()
    check_top(top, vocabulary_of({name: bound[name] for name in formula.program.operands}).size)


def show(explanation: "Explanation", by: str) -> None:
    """The coloured text and the table on standard output."""
    from arith.study.explanation_text import rendered

    output = console(WIDTH)
    with output.capture() as captured:
        output.print(rendered(explanation, by))
    put(captured.get(), end="")


def write_json(path: Path, explanation: "Explanation") -> None:
    """Writes all numbers as one JSON object. Raises `SpecError` where the file can't be written."""
    content = json.dumps(explanation.as_data(), ensure_ascii=False, allow_nan=False)
    write_output(path, content + "\n")
