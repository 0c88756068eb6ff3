"""Fitting the parameters of a formula to data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from arith.errors import OptionError
from arith.runtime import Engine
from arith.runtime.likelihood import Likelihood
from grammar.errors import nearest
from trainers.fitting.data import FitData, Rows, read_data
from trainers.fitting.errors import FitError
from trainers.fitting.fitting import Fitting
from trainers.fitting.result import Fit


def fit(
    engine: Engine | str | Path,
    data: FitData | str | Path | Rows,
    *,
    names: Sequence[str] | None = None,
    params: Mapping[str, float] | None = None,
    objective: str | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Fit:
    """The values of the parameters `names` (None: all of the formula's) at which the formula fits the data
    best; its operands stay as they are.

    engine: an engine, or a specification to load one from.
    data: see `trainers.fitting.data.read_data`. Each text counts with the token that ends its turn.
    params: values to start from, and those of parameters that don't vary, over the formula's own.
    objective: "likelihood" or "preference"; the data's columns tell it when None.
    report: is told what is done.

    Raises `FitError` where there is nothing to fit, the objective doesn't depend on a parameter, or no best
    value is found; `FormulaError` where no gradient reaches a parameter, or one has no value to start from;
    and what reading the data, loading the engine and scoring raise.
    """
    given = data if isinstance(data, FitData) else read_data(data, objective)
    if not isinstance(engine, Engine | str | Path):
        raise OptionError(
            f"a fit takes an engine or the path of a specification, not {type(engine).__name__}",
            "Engine(formula) makes an engine",
        )
    loaded = engine if isinstance(engine, Engine) else Engine.load(engine)
    start = loaded.formula.parameter_values(params)
    fitted = chosen_names(loaded.formula.program.parameters, names)
    lines = given.lines
    likelihood = Likelihood(
        loaded,
        fitted,
        start,
        [line.whole for line in lines],
        [line.completion for line in lines],
        [line.place for line in lines],
        report,
    )
    return Fitting(likelihood, given.objective, report).run(start)


def chosen_names(parameters: Sequence[str], names: Sequence[str] | None) -> tuple[str, ...]:
    """The parameters to fit. Raises `FitError` for names that are none of the formula's, and where there are
    none at all; `OptionError` for one text in the place of a list."""
    if not parameters:
        raise FitError("the formula has no parameters to fit", "write one into it: base + alpha*arm, say")
    if isinstance(names, str):
        raise OptionError(f"the names of parameters are a list of texts, not {names!r}", f"[{names!r}], say")
    if names is not None and not names:
        raise FitError("no parameter is to be fitted", f"the formula's parameters: {', '.join(parameters)}")
    for name in names or ():
        if name not in parameters:
            close = nearest(name, parameters)
            hint = f"did you mean `{close}`?" if close else f"its parameters: {', '.join(parameters)}"
            raise FitError(f"the formula has no parameter `{name}`", hint)
    return tuple(parameters if names is None else dict.fromkeys(names))
