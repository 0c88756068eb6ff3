"""Command line flags: one for each generation option, made from the options' own model, and `--param`."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast, get_origin

import typer

from arith.errors import OptionError, SpecError
from arith.params_file import read_params
from arith.runtime.options import NO_DRAFT, Compile, Sampling, Speculate, check_compile
from arith.spec import Spec
from grammar.errors import FormulaError, nearest
from grammar.parse import parse

COMPILE = typer.Option(
    "--compile", help="make programs of the models' steps: auto, on or off", metavar="WHEN"
)
MODEL = typer.Option(
    "--model",
    metavar="NAME=MODEL",
    help="model in place of that operand's own, whose adapter goes too; may be repeated",
)
SPECULATE = typer.Option(help="what drafts tokens: a formula, prompt_lookup, or false for nothing")
DRAFT_TOKENS = typer.Option(help="tokens to draft each time: a number, or auto [default]")
OF_A_MODEL = ("adapter", "revision", "quantization", "device_map")
PARAM = typer.Option("--param", metavar="NAME=NUMBER", help="value of a parameter; may be repeated")
PARAMS = typer.Option("--params", help="YAML file of parameter values, as `arith fit` writes it")


def sampling_flags(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with `**sampling` made into a flag for each field of `Sampling`: None where not given."""
    written = inspect.signature(command)
    fixed = [one for one in written.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [_flag(name) for name in Sampling.model_fields]
    annotations = {one.name: one.annotation for one in (*fixed, *flags)}
    command.__signature__ = written.replace(parameters=[*fixed, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {**annotations, "return": None}
    return command


def _flag(name: str) -> inspect.Parameter:
    field = Sampling.model_fields[name]
    repeated = get_origin(field.annotation) is tuple
    kind: Any = list[str] if repeated else field.annotation
    spelling = "--" + name.replace("_", "-")
    if field.annotation is bool:
        spelling += "/--no-" + name.replace("_", "-")
    description = f"{field.description}{' (may be repeated)' if repeated else f' [default: {field.default}]'}"
    option = typer.Option(spelling, help=description, show_default=False, rich_help_panel="Sampling")
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def sampling_of(spec: Spec, flags: dict[str, object]) -> Sampling:
    """The options of the specification, those of the command line over them. Raises `OptionError`."""
    given = {name: value for name, value in flags.items() if value is not None}
    return Sampling.of(spec.sampling.model_dump(exclude_unset=True) | given)


def with_models(spec: Spec, assignments: Iterable[str] | None) -> Spec:
    """The specification with the models of `--model` in place of its operands' own; what belongs to the model
    that was there (adapter, revision, quantization, device_map) goes with it.

    Raises `OptionError` for an assignment that isn't `name=model`, is given twice, or names no operand, and
    `OperandError` for a model that the operand can't be.
    """
    from arith.operands.llm import AS_TRAINED, FORMAT, LLM

    operands = dict(spec.operands)
    for name, model in _assigned_models(assignments or ()).items():
        if name not in operands:
            close = nearest(name, operands)
            hint = f"did you mean `{close}`?" if close else f"operands: {', '.join(operands)}"
            raise OptionError(f"--model {name}={model}: {spec.source} has no operand `{name}`", hint)
        changes: dict[str, Any] = {key: None for key in OF_A_MODEL if hasattr(operands[name], key)}
        if isinstance(operands[name], LLM):  # a folder that training wrote has a format of its own
            changes |= {key: AS_TRAINED for key in FORMAT if getattr(operands[name], key) is None}
        operands[name] = replace(operands[name], model=model, **changes)
    return replace(spec, operands=operands)


def _assigned_models(assignments: Iterable[str]) -> dict[str, str]:
    models: dict[str, str] = {}
    for assignment in assignments:
        name, equals, model = (part.strip() for part in assignment.partition("="))
        if not equals or not name or not model:
            hint = "--model base=allenai/tulu-2-13b, say"
            raise OptionError(f"--model {assignment}: must be NAME=MODEL", hint)
        if name in models:
            raise OptionError(f"--model {assignment}: `{name}` is given twice")
        models[name] = model
    return models


def with_speed(spec: Spec, compile: str | None, draft: str | None, tokens: str | None) -> Spec:
    """The specification with what makes texts come faster and changes none: `--compile`, `--speculate`
    (`false` is no draft) and `--draft-tokens` over its own.

    Raises `OptionError` or `FormulaError`.
    """
    if compile is not None:
        check_compile(compile)
        spec = replace(spec, compile=cast(Compile, compile))
    return _with_draft(spec, draft, tokens)


def _with_draft(spec: Spec, draft: str | None, tokens: str | None) -> Spec:
    from arith.language.names import supersedes

    if draft is None and tokens is None:
        return spec
    if draft is not None and not draft.strip():
        raise OptionError("--speculate names no draft", "it takes a formula, prompt_lookup, or false")
    if draft == "false":
        if tokens is not None:
            raise OptionError(
                "--speculate false drafts nothing, and so no --draft-tokens", "give one of them"
            )
        return replace(spec, speculate=NO_DRAFT)
    own = spec.speculate
    given: dict[str, object] = {} if own is None else own.model_dump(exclude_unset=True)
    if draft is not None:
        given = {"draft": draft}
    if tokens is not None:
        if not given and not supersedes(parse(spec.text)):
            raise OptionError("--draft-tokens is about a draft", "name it with --speculate")
        given["tokens"] = tokens if tokens == "auto" else _whole("--draft-tokens", tokens)
    changed = replace(spec, speculate=Speculate.model_validate(given))
    changed.drafting()
    return changed


def _whole(flag: str, text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise OptionError(f"{flag} {text}: it has to be a whole number of at least 1, or auto")
    return int(text)


def params_of(spec: Spec, assignments: Iterable[str] | None, file: Path | None = None) -> dict[str, float]:
    """The values in the specification, those of the file of `--params` over them, and over these those of
    `--param`; every parameter has one.

    Raises what `given_params` raises, and `SpecError` for a value that isn't finite, a name that is no
    parameter of the formula, and a parameter left without a value.
    """
    given = given_params(spec.formula().parameters, assignments, file)
    try:
        return spec.formula().parameter_values(given)
    except FormulaError as error:
        raise SpecError(f"{spec.source}: formula: {error}") from None


def given_params(
    known: Sequence[str], assignments: Iterable[str] | None, file: Path | None
) -> dict[str, float]:
    """The values in the file of `--params`, of some of the `known` names, and over them those of `--param`.

    Raises `OptionError` for an assignment that isn't `name=number` or is given twice.
    """
    given: dict[str, float] = {}
    for assignment in assignments or ():
        name, value = _assigned(assignment)
        if name in given:
            raise OptionError(f"--param {assignment}: `{name}` is given twice")
        given[name] = value
    return {**({} if file is None else read_params(file, known)), **given}


def _assigned(assignment: str) -> tuple[str, float]:
    name, equals, number = assignment.partition("=")
    name = name.strip()
    if not equals or not name:
        raise OptionError(f"--param {assignment}: must be NAME=NUMBER", "--param alpha=0.3, say")
    return name, number_in(f"--param {assignment}", number)


def number_in(place: str, text: str) -> float:
    """The number that the text is. Raises `OptionError` with the place where it is none."""
    try:
        if "_" in text:  # Python would read `1_0` as 10
            raise ValueError(text)
        return float(text)
    except ValueError:
        raise OptionError(f"{place}: `{text}` isn't a number") from None
