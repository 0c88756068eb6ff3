"""The tokenizer of an operand."""

import functools
from typing import TYPE_CHECKING, Protocol

from arith.operands.hub import reading
from arith.operands.locate import canonical
from arith.operands.source import pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OfModel(Protocol):
    """Whatever is declared by a model and a revision of it."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str | None: ...


def load_tokenizer(operand: OfModel) -> "PreTrainedTokenizerBase":
    """The tokenizer of the operand's model, loaded once. Raises `OperandError` if it can't be read."""
    return _load(canonical(operand.model), operand.revision)


@functools.cache
def _load(model: str, revision: str | None) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    source, options = pretrained(model, revision)
    with reading("the tokenizer", model):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **options)
    return tokenizer
