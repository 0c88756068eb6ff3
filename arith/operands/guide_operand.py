"""What classifiers and reward models have in common: they read text, and a formula uses them as guides."""

from typing import ClassVar

import torch

from arith.errors import OperandError
from arith.language.values import Type
from arith.operands.declaration import DTYPES, check_choice, check_filled, check_texts
from arith.operands.llm import FIELD, Weights
from arith.operands.locate import canonical


class GuideOperand:
    """A sequence classification model; `Classifier` and `RewardModel` say what its outputs mean."""

    kind: ClassVar[Type] = Type.CLASSIFIER

    model: str
    template: str | None
    revision: str | None
    dtype: str | torch.dtype | None
    device_map: str | None

    @property
    def weights(self) -> Weights:
        """What has to be loaded: guides with equal `weights` share them."""
        assert not isinstance(self.dtype, torch.dtype)
        return Weights(canonical(self.model), self.revision, self.dtype, device_map=self.device_map)

    def _check(self) -> None:
        check_texts(self, ("model",), ("template", "revision", "dtype", "device_map"))
        check_filled(self, ("model", "revision", "device_map"))
        check_choice(self, "dtype", DTYPES)
        if self.model.lower().endswith(".gguf"):
            raise OperandError(
                f"operand: `model` is {self.model}, and GGUF files hold causal language models only",
                "name the folder or hub id of a sequence classification model",
            )
        if self.template is not None and "text" not in FIELD.findall(self.template):
            raise OperandError(
                f"operand: the template {self.template!r} has no {{text}}",
                "put {text} where the generated text belongs",
            )
