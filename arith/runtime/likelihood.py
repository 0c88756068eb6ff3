"""The log-probabilities of given texts as a function of the formula's parameters, with its gradients."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language.inputs import Inputs
from arith.runtime.answers import Moment
from arith.runtime.engine import Engine
from arith.runtime.kept_logits import KeptLogits
from arith.runtime.remembered import Memory, Remembered
from arith.runtime.row import Row
from arith.runtime.scoring import RowLogits, parts_of
from grammar.errors import FormulaError


class Likelihood:
    """Texts behind prompts, each with the token that ends the turn. The operands run once over all of them,
    when this is made, and their logits are kept.

    `names` are the parameters that will vary; the others keep their `values`. Prompts, texts and `places` are
    those of `Engine.score`. `report` is told what is done. Raises what `Engine.score` raises, and `PlanError`
    where the logits don't fit.
    """

    def __init__(
        self,
        engine: Engine,
        names: Sequence[str],
        values: Mapping[str, float],
        prompts: Any,
        texts: Any,
        places: Sequence[str],
        report: Callable[[str], None],
    ):
        self.names = tuple(names)
        self._engine = engine
        self._fusion = engine.runner.models.fusion
        rows = engine.runner.rows.to_score(prompts, texts, values, end=True, behind=False, places=places)
        # NaN is no weight of 0, so that nothing is left out which other values of the parameters need.
        varied = {**values, **dict.fromkeys(self.names, math.nan)}
        bound = engine.formula.bindings
        needed = frozenset(bound[name] for name in self._fusion.program.needed(varied))
        for row in rows:
            row.needed = needed
        self.counts = torch.tensor([len(row.tokens) for row in rows], dtype=torch.float64)
        kept = KeptLogits(sum(len(row.tokens) for row in rows))

        self._excluding: set[Row] = set()  # those at which an operand excludes tokens

        def keep(row: Row, logits: RowLogits) -> tuple[Row, RowLogits]:
            if any(bool((part == -math.inf).any()) for part in logits.values()):
                self._excluding.add(row)
            return row, kept.keep(logits)

        report(f"running the operands over {len(rows)} texts of {int(self.counts.sum()):,} tokens ...")
        # The first one alone tells how much room all take, before the others run.
        self._rows = engine.runner.teacher_forced(rows[:1], keep, behind=False)
        report(f"keeping their logits: {kept.place}")
        self._rows += engine.runner.teacher_forced(rows[1:], keep, behind=False)
        self._memories: dict[tuple[Row, int], Memory] = {}

    def totals(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probability `[texts]` of each text, and its gradient `[texts, parameters]`, at the values
        `[parameters]` of the parameters in `names`; float64, in nats.

        Raises `EvaluationError` where the formula has no value, or gives a token probability 0, and
        `FormulaError` for a parameter that no gradient reaches.
        """
        leaves = [value.clone().requires_grad_() for value in values.double()]
        reached = [False] * len(leaves)
        totals = torch.zeros(len(self._rows), dtype=torch.float64)
        gradients = torch.zeros(len(self._rows), len(leaves), dtype=torch.float64)
        with self._engine.runner.at_work():
            for number, (row, logits) in enumerate(self._rows):
                for part in self._parts(row, logits, leaves):
                    totals[number] += part.item()
                    if not part.requires_grad:
                        continue
                    for at, found in enumerate(torch.autograd.grad(part, leaves, allow_unused=True)):
                        if found is not None:
                            reached[at] = True
                            gradients[number, at] += found
        self._refuse_unreached(reached)
        return totals, gradients

    def _parts(self, row: Row, logits: RowLogits, leaves: Sequence[Tensor]) -> Iterator[Tensor]:
        """The log-probabilities of the row's tokens, some positions together."""
        for number, (moments, part) in enumerate(parts_of(self._fusion, row, logits)):
            inputs = self._fusion.inputs(moments, part)
            columns = {
                name: leaf.to(inputs.device, inputs.dtype).expand(inputs.row_count, 1)
                for name, leaf in zip(self.names, leaves, strict=True)
            }
            memory = self._memories.setdefault((row, number), Memory())
            inputs = replace(
                inputs,
                parameters={**inputs.parameters, **columns},
                source=Remembered(inputs.asked, memory),
            )
            yield self._log_prob(inputs, moments)

    def _log_prob(self, inputs: Inputs, moments: Sequence[Moment]) -> Tensor:
        """The log-probability, of all together, of the tokens that follow at the moments of one row."""
        tokens = [moment.row.tokens[len(moment.tokens)] for moment in moments]
        program = self._fusion.program
        # Exact, because a -inf that has no part in the value makes the gradient NaN otherwise.
        exact = moments[0].row in self._excluding
        log_probs = program.log_probs(inputs, place=lambda number: moments[number].place, exact=exact)
        chosen = log_probs.gather(-1, torch.tensor(tokens, device=inputs.device).unsqueeze(-1))
        for token, moment, value in zip(tokens, moments, chosen.flatten().tolist(), strict=True):
            if value == -math.inf:
                text = self._engine.tokenizer.decode([token])
                raise EvaluationError(
                    f"the formula gives {text!r} the probability 0, at {moment.place}",
                    None,
                    "leave the text out, or widen the formula's support",
                )
        return chosen.cpu().double().sum()  # not all devices have float64

    def _refuse_unreached(self, reached: Sequence[bool]) -> None:
        for name, is_reached in zip(self.names, reached, strict=True):
            if not is_reached:
                nodes = self._fusion.program.nodes
                spans = [n.span for n in nodes if n.kind == "parameter" and n.payload == name]
                raise FormulaError(
                    f"no gradient reaches `{name}`: it acts through comparisons or ranks, if at all",
                    next(iter(spans), None),
                    "try some values of it: `arith score` with --param",
                )
