"""Compares the formula of a method's example with the method's published equation, row by row.

An equation is a function of one row: tensors `[vocab]` of log-probabilities and numbers in, the probabilities
`[vocab]` of the next token out, written as its paper has it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arith.spec import Spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "methods"
ROWS, VOCABULARY = 6, 61
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


class Draw:
    """Random values for the rows of a batch, in double precision; the same ones in every run."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def dist(self, *, sharpness: float = 2.0, some_outside: bool = False) -> Tensor:
        """Log-probabilities `[rows, vocab]`; with `some_outside` a third of the tokens are -inf in every
        second row."""
        logits = sharpness * torch.randn(ROWS, VOCABULARY, dtype=torch.float64, generator=self.generator)
        if some_outside:
            out = torch.rand(ROWS, VOCABULARY, generator=self.generator) < 1 / 3
            out[::2] = False
            logits = logits.masked_fill(out, -torch.inf)
        return logits.log_softmax(-1)

    def number(self, low: float, high: float) -> Tensor:
        """A number for each row `[rows]`, the two bounds among them."""
        numbers = low + (high - low) * torch.rand(ROWS, dtype=torch.float64, generator=self.generator)
        numbers[0], numbers[1] = low, high
        return numbers

    def judged(self) -> tuple[Tensor, Tensor]:
        """A classifier's log-probabilities of its label, for the text with each token `[rows, vocab]` and for
        the text without `[rows]`."""
        chances = 0.02 + 0.96 * torch.rand(
            ROWS, VOCABULARY + 1, dtype=torch.float64, generator=self.generator
        )
        return chances[:, 1:].log(), chances[:, 0].log()


def assert_formula_is(method: str, equation: Callable[..., Tensor], **values: Any) -> None:
    """The formula of `examples/methods/METHOD.yaml` gives, in every row, the probabilities of the equation.

    `values` are those of `Formula.evaluate`, and the equation gets each row's part of them under the same
    names: all that the formula needs, each of its parameters included.
    """
    formula = Spec.load(EXAMPLES / f"{method}.yaml").formula()
    missing = [name for name in formula.parameters if name not in values]
    assert not missing, f"{method}: the parameters {missing} are not varied"
    expected = torch.stack([equation(**_row(values, row)) for row in range(ROWS)])
    assert expected.dtype == torch.float64
    torch.testing.assert_close(expected.sum(-1), torch.ones(ROWS, dtype=torch.float64))
    for dtype, tolerance in TOLERANCE.items():
        found = formula.evaluate(**{name: _in(dtype, value) for name, value in values.items()})
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected.log(), rtol=tolerance, atol=tolerance)


def _row(values: Mapping[str, Any], row: int) -> dict[str, Any]:
    def part(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(part(side) for side in value)
        if isinstance(value, Tensor):
            return float(value[row]) if value.dim() == 1 else value[row]
        return value

    return {name: part(value) for name, value in values.items()}


def _in(dtype: torch.dtype, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_in(dtype, side) for side in value)
    return value.to(dtype) if isinstance(value, Tensor) else value
