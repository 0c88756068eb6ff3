"""From a checked specification to its engine; what can be refused is refused before weights are loaded."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from arith.cli.failures import say
from arith.prompts_file import PromptLine
from arith.runtime.options import NO_DRAFT, check_max_rows
from arith.spec import Spec

if TYPE_CHECKING:
    from arith.language import Formula
    from arith.runtime import Engine
    from arith.runtime.plan import Plan


def formula_and_draft(spec: Spec) -> tuple["Formula", "Formula | None"]:
    """The formula, and what drafts for it (None: nothing, or a look at its own text)."""
    from arith.runtime.speculation.drafting import drafting_of

    formula = spec.formula()
    drafting = drafting_of(spec.drafting(), formula, formula.bindings)
    return formula, None if drafting is None else drafting.formula


def plan_of(spec: Spec, device: str | None) -> "Plan":
    """What will be loaded, where, and the memory it takes."""
    from arith.operands.loading import resolve_device
    from arith.runtime.models import planned

    return planned(*formula_and_draft(spec), resolve_device(device))


def load(
    spec: Spec,
    lines: Iterable[PromptLine],
    *,
    max_rows: int | None,
    device: str | None,
    end: bool = False,
    writes: bool = True,
) -> "Engine":
    """The engine, after its plan is shown and every line is read as each operand will read it.

    `end`: a token that ends the turn follows completions. Where it `writes` no text, nothing drafts. Raises
    what the engine raises, and `PromptError` with the place of a line that can't be rendered or is too long
    for a context window.
    """
    check_max_rows(max_rows)
    from arith.operands.gguf import cache_folder
    from arith.operands.source import is_unconverted
    from arith.runtime import Engine

    if not writes:
        spec = replace(spec, speculate=NO_DRAFT)
    plan = plan_of(spec, device)
    say(str(plan))
    weights = [*(one.weights for one in plan.backbones), *(one.weights for one in plan.guides)]
    models = dict.fromkeys(one.model for one in weights)
    for model in filter(is_unconverted, models):
        say(f"converting {model} to float32 once: later starts find it in {cache_folder()} ...")
    refuse_unreadable(spec, lines, end)
    say("loading the models ...")
    if writes and spec.compile == "on":
        say("the first steps are slow: they are compiled, on a CPU for minutes")
    engine = Engine(
        spec.formula(),
        max_rows=max_rows,
        device=device,
        sampling=spec.sampling,
        speculate=spec.drafting(),
        compile=spec.compile,
    )
    for note in engine.notes:
        say(note)
    return engine


def refuse_unreadable(spec: Spec, lines: Iterable[PromptLine], end: bool) -> None:
    """Raises `PromptError` for the first line that an operand can't read."""
    from arith.operands.prompts import encode_continuation
    from arith.operands.tokenizers import load_tokenizer
    from arith.runtime.rows import PromptReader

    reader = PromptReader.of(spec.formula())
    tokenizer = load_tokenizer(next(iter(reader.operands)))
    for line in lines:
        completion = [] if line.completion is None else encode_continuation(tokenizer, line.completion)
        # A last token is not run: nothing behind it is asked.
        room = max(0, len(completion) + end - 1)
        reader.check([line.whole], [room], [line.place])
