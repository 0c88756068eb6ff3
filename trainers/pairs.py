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
from arith.language.alternatives import alternatives, picked, picks
from arith.operands import LLM

if TYPE_CHECKING:
    from arith.runtime import Engine, Result

SIDES = ["chosen", "rejected"]

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
    better, worse = Formula.of(chosen), Formula.of(rejected)
    if str(better) == str(worse) and better.bindings == worse.bindings:
        hint = "give one of them another formula or another system prompt"
        raise OptionError("the chosen and the rejected side are the same", hint)
    return alternatives({"chosen": better, "rejected": worse})


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

    The sides of a pair are drawn with random numbers of their own. Raises what the engine raises, and
    `OptionError` for an engine of another formula, and for a value of what tells the sides apart.
    """
    from arith.runtime.options import Sampling
    from arith.runtime.rows import as_prompts

    _refuse_other(engine, params)
    prompts = as_prompts(prompts)
    places = places or [f"prompt {number}" for number in range(1, len(prompts) + 1)]
    if len(places) != len(prompts):
        raise OptionError(f"{len(places)} places are given for {len(prompts)} prompts")
    options = Sampling.of({**engine.sampling.model_dump(exclude_unset=True), **sampling})
    results = engine.as_completed(
        # Next to each other, so that a prompt's random numbers don't depend on how many come behind it.
        [prompt for prompt in prompts for _ in SIDES],
        params=[{**(params or {}), **picked(SIDES, side)} for _ in prompts for side in SIDES],
        places=[f"{place} ({side})" for place in places for side in SIDES],
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


def _refuse_other(engine: Any, params: Any) -> None:
    """Raises `OptionError` for an engine of another formula than a `contrast`, and for values that can't be
    given."""
    parameters = getattr(getattr(engine, "formula", None), "parameters", ())
    if not set(map(picks, SIDES)) <= set(parameters):
        made = "Engine(contrast(chosen, rejected)) makes one"
        raise OptionError("pairs are written by an engine whose formula has two sides", made)
    if params is not None and not isinstance(params, Mapping):
        raise OptionError(f"the parameters' values are a mapping from names, not {type(params).__name__}")
    for name in map(picks, SIDES):
        if name in (params or ()):
            raise OptionError(f"`{name}` tells the sides of a pair apart: its value can't be given")


def _instructed(name: str, operand: LLM, system: str) -> LLM:
    try:
        return replace(operand, system=system)
    except OperandError as error:
        message = f"operand `{name}`: {error.message.removeprefix('operand: ')}"
        raise OperandError(message, error.hint) from None


def _without_stop_string(result: "Result", stop_strings: Sequence[str]) -> str:
    if result.finish_reason != "stop_string":
        return result.text
    ends = [at for string in stop_strings if (at := result.text.find(string)) >= 0]
    return result.text[: min(ends, default=None)]
