"""Contrast pairs: preference data that the engine writes itself, with no human labels.

The chosen answer comes from one formula, the rejected one from another that is meant to be worse, such as the
same model under the opposite instruction (RLCD: Yang, Klein, Celikyilmaz, Peng, Tian, "RLCD: Reinforcement
Learning from Contrastive Distillation for Language Model Alignment", 2023, arXiv 2307.12950).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from arith.errors import OperandError, OptionError
from arith.language import Formula
from arith.operands import LLM
from grammar.errors import FormulaError
from grammar.tree import Expression, Name

if TYPE_CHECKING:
    from arith.runtime import Engine, Result

WEIGHTS = ("is_chosen", "is_rejected")
"""The parameters of a contrast that say which side a row is of."""

Flaw = Literal["empty side", "equal sides", "side cut off"]
CUT: Flaw = "side cut off"


@dataclass(frozen=True)
class Pair:
    """Two answers to the prompt number `index`; `sample` tells its pairs apart."""

    index: int
    sample: int
    chosen: "Result"
    rejected: "Result"

    @property
    def flaw(self) -> Flaw | None:
        """Why nothing should be trained on it; None where something may."""
        sides = (self.chosen, self.rejected)
        if not all(side.text.strip() for side in sides):
            return "empty side"
        if self.chosen.text == self.rejected.text:
            return "equal sides"
        return None if all(side.finish_reason in ("stop", "stop_string") for side in sides) else CUT


def with_system(formula: Any, system: str) -> Formula:
    """The formula (or operand) with this system prompt in all its language models.

    Raises `OperandError` for one whose template has no place for it.
    """
    formula = Formula.of(formula)
    bound = {
        name: _instructed(name, value, system) if isinstance(value, LLM) else value
        for name, value in formula.bindings.items()
    }
    return Formula(str(formula), **bound)


def contrast(chosen: Any, rejected: Any) -> Formula:
    """One formula for both sides: the parameters `is_chosen` and `is_rejected` pick one of them in each row.

    So both sides share their models and batches: what has weight 0 in a row doesn't run for it. Where a name
    stands for two operands, that of the rejected side has `_rejected` behind it. Raises `OptionError` for
    sides that are equal, and `FormulaError` for a name that can't mean what it does on both sides.
    """
    sides = (Formula.of(chosen), Formula.of(rejected))
    for side in sides:
        for name in WEIGHTS:
            if name in (*side.operands, *side.parameters):
                raise FormulaError(f"`{name}` tells the sides of a pair apart", None, "choose another name")
    better, worse = sides
    if str(better) == str(worse) and better.bindings == worse.bindings:
        hint = "give one of them another formula or another system prompt"
        raise OptionError("the chosen and the rejected side are the same", hint)
    return Formula(
        "is_chosen*chosen_side + is_rejected*rejected_side",
        chosen_side=better,
        rejected_side=_beside(better, worse),
        is_chosen=1.0,
        is_rejected=0.0,
    )


def contrast_pairs(
    engine: "Engine",
    prompts: Any,
    *,
    params: Mapping[str, float] | None = None,
    places: Sequence[str] | None = None,
    wanted: Collection[tuple[int, int]] | None = None,
    **sampling: Any,
) -> Iterator[Pair]:
    """The pairs that an engine of a `contrast` writes, each as soon as both its sides are done.

    prompts: as the engine takes them; `num_return_sequences` pairs are written for each.
    params: values of the formula's other parameters.
    places: what errors call the prompts.
    wanted: index of the prompt and number of the sample of the pairs to write; None for all. Each is what it
        is in a run of all.
    sampling: the options of `Sampling`; those left out are the engine's own. A stop string ends an answer and
        is no part of it.

    The sides of a pair are drawn with random numbers of their own. Raises what the engine raises.
    """
    from arith.runtime.options import Sampling
    from arith.runtime.rows import as_prompts

    prompts = as_prompts(prompts)
    places = places or [f"prompt {number}" for number in range(1, len(prompts) + 1)]
    options = Sampling.of({**engine.sampling.model_dump(exclude_unset=True), **sampling})
    chosen, rejected = WEIGHTS
    sides = ({chosen: 1.0, rejected: 0.0}, {chosen: 0.0, rejected: 1.0})
    results = engine.as_completed(
        # Next to each other, so that a prompt's random numbers don't depend on how many come behind it.
        [prompt for prompt in prompts for _ in sides],
        params=[{**(params or {}), **side} for _ in prompts for side in sides],
        places=[f"{place} ({side})" for place in places for side in ("chosen", "rejected")],
        wanted=None if wanted is None else [(2 * i + side, s) for i, s in wanted for side in (0, 1)],
        **options.model_dump(),
    )
    waiting: dict[tuple[int, int], Result] = {}
    for result in results:
        index, side = divmod(result.index, 2)
        answer = replace(result, index=index, text=_without_stop_string(result, options.stop_strings))
        key = (index, result.sample)
        if key not in waiting:
            waiting[key] = answer
        else:
            other = waiting.pop(key)
            yield Pair(*key, *((other, answer) if side else (answer, other)))


def _instructed(name: str, operand: LLM, system: str) -> LLM:
    try:
        return replace(operand, system=system)
    except OperandError as error:
        message = f"operand `{name}`: {error.message.removeprefix('operand: ')}"
        raise OperandError(message, error.hint) from None


def _beside(better: Formula, worse: Formula) -> Formula:
    """The rejected side; an operand whose name is that of another one on the chosen side is renamed."""
    taken = {*better.bindings, *worse.bindings}
    names: dict[str, str] = {}
    for name, value in worse.bindings.items():
        if not isinstance(value, float) and better.bindings.get(name, value) != value:
            names[name] = f"{name}_rejected"
            while names[name] in taken:
                names[name] += "_"

    def change(node: Expression) -> Expression | None:
        return Name(names[node.id], node.span) if isinstance(node, Name) and node.id in names else None

    bound = {names.get(name, name): value for name, value in worse.bindings.items()}
    return Formula(str(worse.rewritten(change)), **bound)


def _without_stop_string(result: "Result", stop_strings: Sequence[str]) -> str:
    if result.finish_reason != "stop_string":
        return result.text
    ends = [at for string in stop_strings if (at := result.text.find(string)) >= 0]
    return result.text[: min(ends, default=None)]
