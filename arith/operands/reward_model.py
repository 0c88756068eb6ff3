"""The declaration of a reward model as the operand of a guide."""

from dataclasses import dataclass

import torch

from arith.errors import OperandError
from arith.operands.guide_operand import GuideOperand
from arith.operands.manifest import REWARD_MODEL, read_manifest, text_template


@dataclass(frozen=True)
class RewardModel(GuideOperand):
    """A sequence classification model of one output. Its value for a text is that output, the reward.

    model: hub id, local folder, or `package:NAME/FOLDER` (a folder inside an installed package).
    template: what the model reads. None lays the prompt out in the chat template of the model's tokenizer,
        and the text generated so far follows as the assistant's unfinished turn. Otherwise a text in which
        `{text}` is the text generated so far, `{prompt}` the prompt, and any other name a field of the
        prompt. Left out, it is that of the training where `model` is a folder written by one.
    revision: branch, tag or commit of a hub model.
    dtype: of the weights, such as "bfloat16" (or the torch.dtype); None for the checkpoint's own.
    device_map: as in transformers, such as "auto".

    A causal reward model which has the tokens of the formula, and whose template ends in `{text}` (that of a
    chat does), reads the generated tokens themselves. Others read the text which these decode to.

    Raises `OperandError`, which names the field, for a value that none of these can be.
    """

    model: str
    template: str | None = None
    revision: str | None = None
    dtype: str | torch.dtype | None = None
    device_map: str | None = None

    def __post_init__(self) -> None:
        self._check()
        manifest = read_manifest(self.model)
        if manifest is None:
            return
        if manifest.kind != REWARD_MODEL:
            raise OperandError(
                f"{self.model} was trained as a language model, not as a reward model", "declare it as an LLM"
            )
        if self.template is None:
            object.__setattr__(self, "template", text_template(manifest))
