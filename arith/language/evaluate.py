"""A program on plain tensors of any leading shape, with no engine and no model."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language.execute import Inputs
from arith.language.names import STEP
from arith.language.program import Program
from grammar.errors import FormulaError, nearest


def evaluate(program: Program, values: Mapping[str, Any]) -> Tensor:
    """The normalised log-probabilities `[..., vocab]` of a program: see `Formula.evaluate`."""
    names = (*program.operands, *program.parameters, *((STEP,) if program.uses_step else ()))
    for name in values:
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean `{close}`?" if close else None
            raise FormulaError(f"a value is given for `{name}`, which the formula does not use", None, hint)
    for name in names:
        if name not in values:
            raise FormulaError(f"no value is given for `{name}`")
    tensors = {name: values[name] for name in program.operands}
    scalars = {name: values[name] for name in names if name not in tensors}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dim() == 0:
            raise FormulaError(f"operand `{name}` has to be a floating-point tensor [..., vocab]")
    sizes = {name: tensor.shape[-1] for name, tensor in tensors.items()}
    if len(set(sizes.values())) > 1:
        raise FormulaError(f"the operands have vocabularies of different sizes: {sizes}")
    vocabulary = next(iter(sizes.values()))
    if vocabulary < 2:
        raise FormulaError(
            f"the operands are tensors [..., vocab], and this vocabulary has {vocabulary} token"
        )
    return _evaluate(program, tensors, scalars, vocabulary)


def _evaluate(
    program: Program, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any], vocabulary: int
) -> Tensor:
    given = reduce(torch.promote_types, (t.dtype for t in tensors.values())) if tensors else torch.float32
    dtype = torch.promote_types(given, torch.float32)
    device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
    columns = {name: _column(name, value, dtype, device) for name, value in scalars.items()}
    try:
        shapes = [tensor.shape[:-1] for tensor in tensors.values()] + [
            column.shape for column in columns.values()
        ]
        batch = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    except RuntimeError:
        sizes = {name: list(value.shape) for name, value in {**tensors, **columns}.items()}
        raise FormulaError(f"the values given do not broadcast to one batch: {sizes}") from None
    rows = batch.numel()
    flat = {
        name: t.to(dtype).expand(*batch, vocabulary).reshape(rows, vocabulary) for name, t in tensors.items()
    }
    parameters = {name: column.expand(batch).reshape(rows, 1) for name, column in columns.items()}
    step = parameters.pop(STEP, torch.zeros(rows, 1, dtype=dtype, device=device))
    inputs = Inputs(flat, parameters, step, rows, vocabulary)
    if not rows:
        return torch.zeros(*batch, vocabulary, dtype=given, device=device)
    return program.log_probs(inputs, exact=True).reshape(*batch, vocabulary).to(given)


def _column(name: str, value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise FormulaError(f"parameter `{name}` has to be a number or a tensor [...], not {value!r}")
    column = torch.as_tensor(value, dtype=dtype, device=device)
    if not bool(column.isfinite().all()):
        raise EvaluationError(f"parameter `{name}` is not finite")
    return column
