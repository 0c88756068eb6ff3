"""The search of a fit: the objective as a function of the parameters, and its best point."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.runtime.likelihood import Likelihood
from trainers.fitting.errors import FitError
from trainers.fitting.objective import Objective
from trainers.fitting.result import Fit
from trainers.fitting.search import Minimum, minimise, unbounded

RANGES = "exp(a) in the place of `a` is positive, sigmoid(a) between 0 and 1, 5*tanh(a) between -5 and 5"


@dataclass(frozen=True)
class Evaluation:
    """The objective at some values, its gradient, and the figures to report."""

    loss: float
    gradient: Tensor
    figures: Mapping[str, float]


class Fitting:
    """One search: the objective as a function of the parameters, evaluated once at each point."""

    def __init__(self, likelihood: Likelihood, objective: Objective, report: Callable[[str], None]):
        self.likelihood = likelihood
        self.objective = objective
        self.report = report
        self.evaluations: dict[tuple[float, ...], Evaluation] = {}

    def run(self, start: Mapping[str, float]) -> Fit:
        names, counts = self.likelihood.names, self.likelihood.counts
        origin = torch.tensor([start[name] for name in names], dtype=torch.float64)
        before = self.at(origin)
        for name, part in zip(names, before.gradient.tolist(), strict=True):
            if part == 0:
                raise FitError(
                    f"`{name}` makes no difference: the objective's gradient is 0 with {self.said(origin)}",
                    "start elsewhere, or fit the other parameters alone",
                )
        found = minimise(self.loss, origin)
        self._refuse_endless(origin, found)
        return Fit(
            self.objective.name,
            names,
            dict(start),
            {**start, **dict(zip(names, found.values.tolist(), strict=True))},
            before.figures,
            self.at(found.values).figures,
            len(counts),
            int(counts.sum()),
            len(self.evaluations),
        )

    def loss(self, values: Tensor) -> tuple[float, Tensor]:
        """The objective and its gradient."""
        found = self.at(values)
        return found.loss, found.gradient

    def at(self, values: Tensor) -> Evaluation:
        """The evaluation at values of the parameters. Raises `EvaluationError` where the formula has none
        there, `FitError` where the gradient isn't finite."""
        point = tuple(values.tolist())
        if point not in self.evaluations:
            self.evaluations[point] = found = self._evaluated(values)
            self.report(f"evaluation {len(self.evaluations)}: {found.loss:.6f} with {self.said(values)}")
        return self.evaluations[point]

    def _evaluated(self, values: Tensor) -> Evaluation:
        try:
            totals, gradients = self.likelihood.totals(values)
        except EvaluationError as error:
            hint = error.hint or f"start elsewhere, or bound it in the formula: {RANGES}"
            raise EvaluationError(f"{error.message}, with {self.said(values)}", error.span, hint) from None
        counts = self.likelihood.counts
        totals.requires_grad_()
        loss = self.objective.loss(totals, counts)
        (outer,) = torch.autograd.grad(loss, [totals])
        gradient = outer @ gradients
        if not bool(gradient.isfinite().all()):
            raise FitError(f"the gradient isn't finite with {self.said(values)}", "start elsewhere")
        return Evaluation(loss.item(), gradient, self.objective.report(totals.detach(), counts))

    def _refuse_endless(self, origin: Tensor, found: Minimum) -> None:
        endless = [self.likelihood.names[number] for number in unbounded(self.loss, origin, found)]
        if endless:
            wandering = " and ".join(f"`{name}`" for name in endless)
            raise FitError(
                f"no best value of {wandering}: beyond {self.said(found.values)} the objective is no worse",
                f"fit to more data, or bound it in the formula: {RANGES}",
            )
        if not found.settled:
            raise FitError(
                f"no best value in {len(self.evaluations)} evaluations, which came to "
                f"{self.said(found.values)}",
                "start there, or fit fewer parameters",
            )

    def said(self, values: Tensor) -> str:
        """The values in words."""
        pairs = zip(self.likelihood.names, values.tolist(), strict=True)
        return ", ".join(f"{name}={value:.6g}" for name, value in pairs)
