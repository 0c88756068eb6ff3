"""A program on plain tensors of any leading shape, with no engine and no model."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from arith.errors import EvaluationError
from arith.language.given_values import GivenValues, given_names
from arith.language.inputs import Inputs
from arith.language.program import Program
from arith.language.vocabulary import Vocabulary
from grammar.errors import FormulaError, nearest

VOCABULARY = "vocabulary"


def evaluate(program: Program, values: Mapping[str, Any]) -> Tensor:
    """The normalised log-probabilities `[..., vocab]` of a program: see `Formula.evaluate`."""
    given = given_names(program)
    texts = (VOCABULARY,) if program.names_tokens_by_text else ()
    needed = (*program.leaves, *program.classifiers_that_guide, *program.parameters, *program.positions)
    names = (*needed, *given, *texts)
    for name in values:
        if name not in names and name not in program.operands:
            close = nearest(name, names)
            hint = f"did you mean `{close}`?" if close else None
            raise FormulaError(f"a value is given for `{name}`, which the formula does not use", None, hint)
    for name in names:
        if name not in values:
            raise FormulaError(f"no value is given for `{name}`")
    return _Evaluation(program, values, given).run()


class _Evaluation:
    """One call: values of any leading shape as the rows of one batch."""

    def __init__(self, program: Program, values: Mapping[str, Any], given: Mapping[str, bool]):
        self.program = program
        wide = {name: values[name] for name in program.leaves}
        wide |= {name: values[name] for name, is_dist in given.items() if is_dist}
        columns = {name: values[name] for name in (*program.parameters, *program.positions)}
        columns |= {name: values[name] for name, is_dist in given.items() if not is_dist}
        for name in program.classifiers_that_guide:
            wide[name], columns[f"{name} without"] = _pair(name, values[name])
        for name, tensor in wide.items():
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dim() == 0:
                raise FormulaError(f"operand `{name}` has to be a floating-point tensor [..., vocab]")
        sizes = {name: tensor.shape[-1] for name, tensor in wide.items()}
        if len(set(sizes.values())) > 1:
            raise FormulaError(f"the operands have vocabularies of different sizes: {sizes}")
        self.size = max(sizes.values(), default=2)
        if self.size < 2:
            raise FormulaError(
                f"the operands are tensors [..., vocab], and this vocabulary has {self.size} token"
            )
        self.vocabulary = _vocabulary(values.get(VOCABULARY), self.size)
        dtypes = [tensor.dtype for tensor in wide.values()] or [torch.float32]
        self.given_dtype = reduce(torch.promote_types, dtypes)
        self.dtype = torch.promote_types(self.given_dtype, torch.float32)
        self.device = next((tensor.device for tensor in wide.values()), torch.device("cpu"))
        self.columns = {name: _column(name, c, self.dtype, self.device) for name, c in columns.items()}
        self.wide = wide
        self.batch = self._batch()

    def _batch(self) -> torch.Size:
        shapes = [tensor.shape[:-1] for tensor in self.wide.values()]
        try:
            return torch.broadcast_shapes(*shapes, *(column.shape for column in self.columns.values()))  # type: ignore[no-untyped-call, no-any-return]
        except RuntimeError:
            sizes = {name: list(value.shape) for name, value in {**self.wide, **self.columns}.items()}
            raise FormulaError(f"the values given do not broadcast to one batch: {sizes}") from None

    def run(self) -> Tensor:
        rows = self.batch.numel()
        if not rows:
            return torch.zeros(*self.batch, self.size, dtype=self.given_dtype, device=self.device)
        flat = {
            name: tensor.to(self.dtype).expand(*self.batch, self.size).reshape(rows, self.size)
            for name, tensor in self.wide.items()
        }
        columns = {name: c.expand(self.batch).reshape(rows, 1) for name, c in self.columns.items()}
        inputs = Inputs(
            operands={name: flat[name] for name in self.program.leaves},
            parameters={name: columns[name] for name in self.program.parameters},
            positions={name: columns[name] for name in self.program.positions},
            row_count=rows,
            vocabulary=self.size,
            device=self.device,
            source=GivenValues(flat, columns, self.vocabulary),
        )
        log_probs = self.program.log_probs(inputs, exact=True)
        return log_probs.reshape(*self.batch, self.size).to(self.given_dtype)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise FormulaError(
            f"classifier `{name}` has to be a pair: a tensor [..., vocab] of its values for the text with "
            "each token, and a number or a tensor [...] for the text without"
        )
    return value[0], value[1]


def _vocabulary(texts: Any, size: int) -> Vocabulary:
    if texts is None:
        return Vocabulary(())
    if len(texts) != size or not all(isinstance(text, str) for text in texts):
        raise FormulaError(f"`vocabulary` has to be a list of the texts of all {size} tokens")
    return Vocabulary(texts)


def _column(name: str, value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise FormulaError(f"parameter `{name}` has to be a number or a tensor [...], not {value!r}")
    column = torch.as_tensor(value, dtype=dtype, device=device)
    if not bool(column.isfinite().all()):
        raise EvaluationError(f"parameter `{name}` is not finite")
    return column
