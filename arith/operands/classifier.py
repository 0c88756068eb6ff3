"""The declaration of a text classifier as the operand of a guide."""

from dataclasses import dataclass

import torch

from arith.errors import OperandError
from arith.operands.declaration import check_filled, check_texts
from arith.operands.guide_operand import GuideOperand


@dataclass(frozen=True)
class Classifier(GuideOperand):
    """A sequence classification model of any tokenizer. Its value for a text is log P(label | text).

    model: hub id, local folder, or `package:NAME/FOLDER` (a folder inside an installed package).
    label: a name that the model's configuration gives to one of its outputs (`id2label`), or its index.
    template: what the model reads. `{text}` is the text generated so far, `{prompt}` the prompt, and any
        other name a field of the prompt.
    revision: branch, tag or commit of a hub model.
    dtype: of the weights, such as "bfloat16" (or the torch.dtype); None for the checkpoint's own.
    device_map: as in transformers, such as "auto".

    Raises `OperandError`, which names the field, for a value that none of these can be.
    """

    model: str
    label: str | int
    template: str = "{text}"
    revision: str | None = None
    dtype: str | torch.dtype | None = None
    device_map: str | None = None

    def __post_init__(self) -> None:
        check_texts(self, ("template",), ())
        self._check()
        if isinstance(self.label, bool) or not isinstance(self.label, str | int):
            raise OperandError(f"operand: `label` must be a name or an index, not {self.label!r}")
        check_filled(self, ("label",))
