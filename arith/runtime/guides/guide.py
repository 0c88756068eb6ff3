"""A guide: an operand that is asked for the value of texts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from arith.operands.classifier import Classifier
from arith.operands.guide_operand import GuideOperand
from arith.operands.sequence_models import MULTI_LABEL, output_index
from arith.runtime.guides.context import Context
from arith.runtime.guides.sequence_model import SequenceModel
from arith.runtime.guides.stats import GuideStats
from arith.runtime.guides.text_reader import TextReader
from arith.runtime.guides.token_reader import TokenReader


class Guide:
    """One classifier or reward model, loaded; guides with equal weights share them, and what they have read.

    `slower` says why it doesn't go on from a KV cache although it reads the formula's tokens (None: it does,
    or it reads text).
    """

    def __init__(
        self,
        operand: GuideOperand,
        model: SequenceModel,
        texts: TextReader,
        tokens: TokenReader | None,
        device: torch.device,
        slower: str | None,
    ):
        self.operand = operand
        self.slower = slower
        self._model = model
        self._texts = texts
        self._tokens = tokens
        self._device = device
        self._output = output_index(operand)

    @property
    def stats(self) -> GuideStats:
        return self._model.stats

    def values(self, contexts: Sequence[Context], candidates: Tensor) -> tuple[Tensor, Tensor]:
        """The value `[rows, k]` of each row's text with each of its candidates `[rows, k]` (int64) behind it,
        and `[rows, 1]` of the text without; float32, on the guide's device.

        A classifier's value is log P(label | text), a reward model's the reward. The text is what the row has
        generated, special tokens left out, in the operand's format. Raises `PromptError`, led by the row's
        place, for a prompt that doesn't go into this.
        """
        values = self._value((self._tokens or self._texts).read(contexts, candidates))
        return values[:, 1:], values[:, :1]

    def strengths(self, contexts: Sequence[Context], *, prompt: bool) -> Tensor:
        """P(label | text so far), or the reward of it, `[rows, 1]`; float32, on the guide's device. With
        `prompt` the prompt alone is the text. Errors as those of `values`."""
        if prompt:
            values = self._value(self._texts.read_prompts(contexts))
        else:
            nothing = torch.empty(len(contexts), 0, dtype=torch.long)
            values = self.values(contexts, nothing)[1]
        return values.exp() if isinstance(self.operand, Classifier) else values

    def reset(self) -> None:
        """Forget all rows and texts, and give the memory of the cache back."""
        self._model.reset()
        self._texts.reset()
        if self._tokens is not None:
            self._tokens.reset()

    def _value(self, outputs: Tensor) -> Tensor:
        return values_of(self.operand, self._model, outputs.to(self._device))[..., self._output]


def values_of(operand: GuideOperand, model: SequenceModel, outputs: Tensor) -> Tensor:
    """What a model's outputs `[..., outputs]` mean: log P(label | text) for each label, or the reward."""
    if not isinstance(operand, Classifier):
        return outputs
    several = model.model.config.problem_type == MULTI_LABEL
    return torch.nn.functional.logsigmoid(outputs) if several else outputs.log_softmax(-1)
