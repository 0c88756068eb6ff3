"""Reading rows as text: the guide's model may have any tokenizer."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from arith.errors import OperandError
from arith.operands.guide_operand import GuideOperand
from arith.operands.guide_prompts import Frame, frame, prompt_text
from arith.runtime.guides.context import Context
from arith.runtime.guides.sequence_model import SequenceModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextReader:
    """Lays each row's text out in the operand's format; `tokenizer`, the formula's, decodes it."""

    def __init__(self, operand: GuideOperand, model: SequenceModel, tokenizer: "PreTrainedTokenizerBase"):
        self._operand = operand
        self._model = model
        self._tokenizer = tokenizer
        self._frames: dict[Hashable, Frame] = {}

    def read(self, contexts: Sequence[Context], candidates: Tensor) -> Tensor:
        """The model's outputs `[rows, 1 + k, outputs]` (float32, on the CPU): for the text so far, and with
        each of the candidates `[rows, k]` behind it."""
        texts = []
        for context, row in zip(contexts, candidates.tolist(), strict=True):
            around = self.frame(context).around
            tokens = list(context.tokens)
            texts += [around(self._decode(one)) for one in (tokens, *([*tokens, last] for last in row))]
        outputs = self._model.read_texts(texts, special=self._operand.template is not None)
        return outputs.view(len(contexts), -1, outputs.shape[-1])

    def read_prompts(self, contexts: Sequence[Context]) -> Tensor:
        """The outputs `[rows, 1, outputs]` for the prompt alone, in the place of the text."""
        if self._operand.template is None:
            raise OperandError(
                f"the reward model {self._operand.model} reads chats, and a prompt alone is no answer in one",
                "give it a template with {text}",
            )
        texts = [self.frame(one).around(prompt_text(one.prompt, one.place)) for one in contexts]
        return self._model.read_texts(texts, special=True)[:, None]

    def frame(self, context: Context) -> Frame:
        """The frame around the row's text, laid out once for each row."""
        found = self._frames.get(context.row)
        if found is None:
            found = frame(self._operand, self._model.encoder.tokenizer, context.prompt, context.place)
            self._frames[context.row] = found
        return found

    def reset(self) -> None:
        self._frames.clear()

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        assert isinstance(text, str)
        return text
