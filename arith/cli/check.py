"""`arith check`: what a specification means and what it will take, before any weights are loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arith.cli.failures import ends_well, put
from arith.cli.flags import DRAFT_TOKENS, MODEL, PARAMS, SPECULATE, with_models, with_speed
from arith.cli.loading import formula_and_draft, plan_of
from arith.cli.sweep import joint
from arith.params_file import read_params
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.language import Formula
    from arith.runtime.plan import Plan


@ends_well
def check(
    spec: Annotated[Path, typer.Argument(help="YAML file with the formula and its operands")],
    model: Annotated[list[str] | None, MODEL] = None,
    params_file: Annotated[Path | None, PARAMS] = None,
    speculate: Annotated[str | None, SPECULATE] = None,
    draft_tokens: Annotated[str | None, DRAFT_TOKENS] = None,
    device: Annotated[
        str | None, typer.Option(help="cuda, mps or cpu; the best one here when left out")
    ] = None,
) -> None:
    """Check a specification: show its formula, its graph, the lanes of each forward, and the memory it takes.

    Loads no weights and downloads nothing: of a model that isn't on this machine the memory isn't known.
    """
    from arith.operands.manifest import contradictions

    document = with_speed(with_models(Spec.load(spec), model), None, speculate, draft_tokens)
    run = document if document.sweep is None else joint(document)
    formula = run.formula()
    given = {} if params_file is None else read_params(params_file, (*formula.parameters, *document.lacking))
    document = replace(document, params={**document.params, **given})
    points = [] if document.lacking else document.swept()[1]
    plan = plan_of(run, device)
    formulas = [one for one in formula_and_draft(run) if one is not None]
    bound = {name: value for one in formulas for name, value in one.bindings.items()}
    refuse_what_models_lack(formulas, bound, plan)
    put(f"{formula}\n\n{formula.program}\n\n{plan}")
    swept = list(dict.fromkeys(name for point in points for name in point.values))
    if points:
        put(f"sweep: {len(points)} point{'' if len(points) == 1 else 's'} of {', '.join(swept)}")
    elif document.sweep is not None:
        swept = sorted(document.sweep.names)
        put(f"sweep: points of {', '.join(swept)}, once there are values of {', '.join(document.lacking)}")
    values = {name: formula.bindings.get(name) for name in formula.parameters} | given
    for name, value in values.items():
        if name not in swept and len({point.params[name] for point in points}) < 2:
            put(f"parameter {name}: {'to be given' if value is None else value}")
    for backbone in plan.backbones:
        for name, operand in backbone.lanes:
            for note in contradictions(name, operand):
                put(note)
    for guide in plan.guides:
        for note in (note for name in guide.names for note in contradictions(name, bound[name])):
            put(note)
    for name in document.unused:
        put(f"not used by the formula: {name}")


def refuse_what_models_lack(formulas: "Sequence[Formula]", bound: Mapping[str, Any], plan: "Plan") -> None:
    """Raises `OperandError` for an early exit or a label that a model on this machine doesn't have, and for
    a folder without a tokenizer. `bound` holds the operands by their names, those that don't run among
    them."""
    from arith.operands.locate import locate
    from arith.operands.sequence_models import output_index
    from arith.operands.source import is_unconverted
    from arith.operands.tokenizers import load_tokenizer
    from arith.runtime.fusion import exits_of
    from arith.runtime.models import refuse_missing_layers

    here = {operand for one in plan.backbones if one.memory for _, operand in one.lanes}
    exits = exits_of([one.program for one in formulas], bound)
    refuse_missing_layers({one: asked for one, asked in exits.items() if one in here}, bound)
    lanes = [operand for one in plan.backbones for _, operand in one.lanes]
    guides = [bound[name] for guide in plan.guides for name in guide.names]
    for operand in (*lanes, *guides):
        if locate(operand.model).local and not is_unconverted(operand.model):
            load_tokenizer(operand)
    for guide in plan.guides:
        for name in guide.names if guide.memory else ():
            output_index(bound[name])
