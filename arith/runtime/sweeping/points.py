"""From a sweep's keys to its points."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import combinations, pairwise, product
from math import comb, prod

import torch

from arith.errors import OptionError
from arith.language import Formula
from arith.language.alternatives import alternatives, picked
from arith.language.scalar import Scalar
from arith.point_text import exact_text
from arith.runtime.sweeping.keys import MOST_POINTS, Drawn, Simplex, SweepKeys
from grammar.errors import FormulaError, nearest

FORMULA = "formula"
"""Under this name a point says which of several formulas it is of."""

Values = dict[str, float]


@dataclass(frozen=True)
class Point:
    """One point of a sweep: `values` of what is swept, and `params`, all of the engine's parameters there."""

    values: Mapping[str, float | str]
    params: Mapping[str, float]

    def __str__(self) -> str:
        return exact_text(self.values)


def points_of(sweep: SweepKeys, formula: Formula, params: Mapping[str, float]) -> list[Point]:
    """The points at which a sweep runs a formula; `params` are values of what isn't swept, over those bound.

    Where `sweep.formula` names several formulas, `formula` holds them as `alternatives`. A name that the
    formula of a point doesn't use is no part of that point, and of points that are equal then one is run.
    Raises `OptionError` for a name that is swept twice, that no formula uses, or that is linked in a circle,
    for a linked value that can't be computed, with the point, and for more than `MOST_POINTS` points.
    """
    factors, links, uses = _checked(sweep, formula)
    bound = {name: value for name, value in formula.bindings.items() if isinstance(value, float)}
    found: dict[tuple[tuple[str, float | str], ...], Point] = {}
    for variant, used in uses.items():
        shown = _with_causes(used, links)
        which = {} if variant is None else picked(sweep.formula or (), variant)
        for combined in product(*factors):
            swept = {name: value for part in combined for name, value in part.items()}
            values = _linked(swept, links, {**bound, **params})
            point: dict[str, float | str] = {} if variant is None else {FORMULA: variant}
            point |= {name: value for name, value in values.items() if name in shown}
            given = {**params, **values, **which}
            known = {name: value for name, value in given.items() if name in formula.parameters}
            found.setdefault(tuple(point.items()), Point(point, formula.parameter_values(known)))
    return list(found.values())


def check_sweep(sweep: SweepKeys, formula: Formula) -> None:
    """Raises what `points_of` raises whatever the values of parameters that aren't swept."""
    _checked(sweep, formula)


def names_beside(sweep: SweepKeys, formula: Formula) -> list[str]:
    """The parameters that aren't swept, and what else links follow from."""
    followed = {name for link in _in_order(sweep.links).values() for name in link.names}
    decided = {*sweep.names, *picked(sweep.formula or (), "")}
    return [name for name in dict.fromkeys((*formula.parameters, *followed)) if name not in decided]


def refuse_unknown(given: Iterable[str], sweep: SweepKeys, formula: Formula) -> None:
    """Raises `OptionError` for a name that is given a value, and that is swept or that nothing uses."""
    known = names_beside(sweep, formula)
    for name in given:
        if name in sweep.names:
            raise OptionError(f"`{name}` is swept: its value can't be given")
        if name not in known:
            close = nearest(name, known)
            listed = ", ".join(f"`{one}`" for one in known) or "none"
            hint = f"did you mean `{close}`?" if close else f"parameters that aren't swept: {listed}"
            raise OptionError(f"the sweep has no parameter `{name}`", hint)


def _checked(
    sweep: SweepKeys, formula: Formula
) -> tuple[list[Sequence[Values]], dict[str, Scalar], dict[str | None, frozenset[str]]]:
    """What is combined, what follows from it, and what each formula uses; see `points_of`."""
    _refuse_too_many(sweep)
    _refuse_other_formulas(sweep, formula)
    factors = _factors(sweep)
    if not factors and sweep.formula is None:
        raise OptionError(
            "sweep: there is nothing to run through", "it names values, as in `alpha: [0, 0.5, 1]`"
        )
    names = [name for factor in factors for name in factor[0]]
    for number, name in enumerate(names):
        if name in names[:number] or name in sweep.links:
            raise OptionError(f"sweep: `{name}` is swept twice")
    links = _in_order(sweep.links)
    uses = _uses(sweep, formula)
    _refuse_unused(names, links, uses)
    return factors, links, uses


def _refuse_too_many(sweep: SweepKeys) -> None:
    counts = [len(values) for values in sweep.axes.values()]
    counts += [len(several) for several in (sweep.points, sweep.formula) if several is not None]
    counts += [drawn.count for drawn in (sweep.random, sweep.sobol) if drawn is not None]
    if sweep.simplex is not None:
        between = len(sweep.simplex.names) - 1
        counts.append(comb(sweep.simplex.steps + between, between))
    if prod(counts) > MOST_POINTS:
        hint = "take fewer values, or `random` or `sobol` points in the place of a grid"
        raise OptionError(f"sweep: it has more than {MOST_POINTS:,} points", hint)


def _refuse_other_formulas(sweep: SweepKeys, formula: Formula) -> None:
    """Points say by parameters which formula they are of: a formula without these would be run at all."""
    if sweep.formula is None:
        return
    held = alternatives(sweep.formula)
    if str(held) != str(formula) or held.bound_operands() != formula.bound_operands():
        hint = "make the engine of `alternatives` of them: `arith.language.alternatives`"
        raise OptionError("sweep: the engine's formula doesn't hold the formulas that are compared", hint)


def _factors(sweep: SweepKeys) -> list[Sequence[Values]]:
    """What is combined in every way: each axis, and each set of points."""
    factors: list[Sequence[Values]] = [
        [{name: value} for value in values] for name, values in sweep.axes.items()
    ]
    if sweep.points is not None:
        factors.append(sweep.points)
    if sweep.random is not None:
        generator = torch.Generator().manual_seed(sweep.random.seed)
        size = (sweep.random.count, len(sweep.random.ranges))
        factors.append(_scaled(sweep.random, torch.rand(size, generator=generator, dtype=torch.float64)))
    if sweep.sobol is not None:
        engine = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]
            len(sweep.sobol.ranges), scramble=True, seed=sweep.sobol.seed
        )
        factors.append(_scaled(sweep.sobol, engine.draw(sweep.sobol.count, dtype=torch.float64)))
    if sweep.simplex is not None:
        factors.append(list(_shares(sweep.simplex)))
    return factors


def _scaled(drawn: Drawn, unit: torch.Tensor) -> list[Values]:
    """Points of the unit cube `[count, names]` in the box. The alphabet decides which column is whose, so the
    order in which a file has the names changes no point."""
    columns = dict(zip(sorted(drawn.ranges), unit.unbind(1), strict=True))
    scaled = {name: low + (high - low) * columns[name] for name, (low, high) in drawn.ranges.items()}
    return [
        dict(zip(scaled, values, strict=True)) for values in torch.stack([*scaled.values()], dim=1).tolist()
    ]


def _shares(simplex: Simplex) -> Iterable[Values]:
    """Every way of giving `steps` equal parts to the names."""
    between = len(simplex.names) - 1
    for bars in combinations(range(simplex.steps + between), between):
        ends = (-1, *bars, simplex.steps + between)
        parts = [right - left - 1 for left, right in pairwise(ends)]
        values = (simplex.total * part / simplex.steps for part in parts)
        yield dict(zip(simplex.names, values, strict=True))


def _in_order(links: Mapping[str, str]) -> dict[str, Scalar]:
    """The linked names, each after those that it follows from."""
    scalars: dict[str, Scalar] = {}
    for name, text in links.items():
        try:
            scalars[name] = Scalar(text)
        except FormulaError as error:
            raise OptionError(f"sweep: {name}: {error}") from None
    sorter = TopologicalSorter({name: set(one.names) & scalars.keys() for name, one in scalars.items()})
    try:
        return {name: scalars[name] for name in sorter.static_order()}
    except CycleError as error:
        circle = " -> ".join(f"`{name}`" for name in reversed(error.args[1]))
        raise OptionError(f"sweep: the linked values go in a circle: {circle}") from None


def _uses(sweep: SweepKeys, formula: Formula) -> dict[str | None, frozenset[str]]:
    """The parameters that each of the formulas that are swept uses, or the only one."""
    if sweep.formula is None:
        return {None: frozenset(formula.parameters)}
    return {name: frozenset(Formula.of(one).parameters) for name, one in sweep.formula.items()}


def _with_causes(used: Collection[str], links: Mapping[str, Scalar]) -> set[str]:
    """These names, and those from which the linked ones of them follow."""
    found = set(used)
    for name in reversed(list(links)):
        if name in found:
            found.update(links[name].names)
    return found


def _refuse_unused(
    names: Sequence[str],
    links: Mapping[str, Scalar],
    uses: Mapping[str | None, Collection[str]],
) -> None:
    used: set[str] = set().union(*uses.values())
    for name in (*names, *links):
        if name not in _with_causes(used, links):
            close = nearest(name, used)
            listed = ", ".join(f"`{one}`" for one in sorted(used)) or "none"
            hint = f"did you mean `{close}`?" if close else f"its parameters: {listed}"
            raise OptionError(f"sweep: `{name}` is swept, but the formula does not use it", hint)


def _linked(swept: Values, links: Mapping[str, Scalar], fixed: Mapping[str, float]) -> Values:
    """The swept values with those that follow from them."""
    values = dict(swept)
    for name, link in links.items():
        try:
            values[name] = link.value({**fixed, **values})
        except FormulaError as error:
            where = exact_text(swept) or "its only point"
            raise OptionError(f"sweep: {name}, at {where}: {error}") from None
    return values
