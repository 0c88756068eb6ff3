"""Classifiers and reward models reading answers that are finished, no candidates behind them."""

from collections.abc import Sequence

import torch

from arith.operands.guide_operand import GuideOperand
from arith.operands.guide_prompts import Frame, frame
from arith.operands.prompts import Prompt
from arith.operands.sequence_models import output_index
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.guides.guide import values_of
from arith.runtime.guides.load import load_sequence_reader


class WholeTexts:
    """One classifier or reward model, loaded. It reads an answer as a guide reads the text so far.

    Raises `OperandError` as `load_guides` does.
    """

    def __init__(self, operand: GuideOperand, device: torch.device):
        self._output = output_index(operand)
        self._operand = operand
        self._model = load_sequence_reader(operand, device)

    def values(self, frames: Sequence[Frame], texts: Sequence[str]) -> list[float]:
        """log P(label | text), or the reward, of each text in its prompt's frame. What is too long for the
        model's window loses its beginning."""
        framed = [around.around(text) for around, text in zip(frames, texts, strict=True)]
        outputs = self._model.read_texts(framed, special=self._operand.template is not None)
        found: list[float] = values_of(self._operand, self._model, outputs)[:, self._output].tolist()
        return found

    def reset(self) -> None:
        """Forget all texts."""
        self._model.reset()


def frames_of(operand: GuideOperand, prompts: Sequence[Prompt], places: Sequence[str]) -> list[Frame]:
    """What stands around the answer to each prompt; no weights are loaded.

    Raises `PromptError`, led by the place, for a prompt that doesn't go into the operand's format, and
    `OperandError` for a tokenizer that can't be had.
    """
    tokenizer = load_tokenizer(operand)
    return [frame(operand, tokenizer, prompt, place) for prompt, place in zip(prompts, places, strict=True)]
