"""Reading rows as tokens: the guide's model has the tokens of the formula, and goes on from its KV cache."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arith.operands.guide_operand import GuideOperand
from arith.operands.prompts import special_ids
from arith.runtime.guides.context import Context
from arith.runtime.guides.encoder import TextEncoder
from arith.runtime.guides.extensions import Extensions
from arith.runtime.guides.sequence_model import SequenceModel
from arith.runtime.guides.text_reader import TextReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def reads_tokens(operand: GuideOperand, encoder: TextEncoder, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a text ends in the formula's tokens: these (of `tokenizer`) are among the model's own and
    nothing follows the text in the operand's format."""
    template = operand.template
    if template is not None and (
        template.count("{text}") > 1 or not template.endswith("{text}") or encoder.closes
    ):
        return False
    return tokenizer.get_vocab().items() <= encoder.tokenizer.get_vocab().items()


class TokenReader:
    """Puts each row's tokens behind the beginning that its prompt makes; special tokens are left out.

    With `extensions` the rows' candidates run as extensions by one token; without, as whole texts, and so
    does what is longer than the model's window.
    """

    def __init__(
        self,
        operand: GuideOperand,
        model: SequenceModel,
        tokenizer: "PreTrainedTokenizerBase",
        texts: TextReader,
        extensions: Extensions | None,
    ):
        self._special = operand.template is not None
        self._model = model
        self._texts = texts
        self._extensions = extensions
        self._spoken = frozenset(tokenizer.get_vocab().values()) - special_ids(tokenizer)
        self._beginnings: dict[Hashable, tuple[int, ...]] = {}

    def read(self, contexts: Sequence[Context], candidates: Tensor) -> Tensor:
        """The model's outputs `[rows, 1 + k, outputs]` (float32): for the text so far, and with each of the
        candidates `[rows, k]` behind it."""
        stems = [self._stem(context) for context in contexts]
        following = [
            [token if token in self._spoken else None for token in row] for row in candidates.tolist()
        ]
        extended = [
            at
            for at, (stem, row) in enumerate(zip(stems, following, strict=True))
            if self._extends(stem, row)
        ]
        whole = sorted({*range(len(contexts))}.difference(extended))
        parts = []
        if extended:
            parts.append(self._extend(contexts, stems, following, extended))
        if whole:
            parts.append(self._whole([stems[at] for at in whole], [following[at] for at in whole]))
        order = torch.tensor([*extended, *whole]).argsort()
        return torch.cat([part.cpu() for part in parts])[order]

    def reset(self) -> None:
        self._beginnings.clear()
        if self._extensions is not None:
            self._extensions.reset()

    def _stem(self, context: Context) -> tuple[int, ...]:
        beginning = self._beginnings.get(context.row)
        if beginning is None:
            text = self._texts.frame(context).pieces[0]
            beginning = self._model.encoder.beginning(text, special=self._special)
            self._beginnings[context.row] = beginning
        return (*beginning, *(token for token in context.tokens if token in self._spoken))

    def _extends(self, stem: tuple[int, ...], following: Sequence[int | None]) -> bool:
        """Whether the extended stem fits the window, and the last token decides: for the model it is the last
        one that isn't its padding."""
        window = self._model.encoder.window
        if self._extensions is None or (window is not None and len(stem) >= window):
            return False
        return self._model.padding not in (stem[-1], *(token for token in following if token is not None))

    def _extend(
        self,
        contexts: Sequence[Context],
        stems: Sequence[tuple[int, ...]],
        following: Sequence[Sequence[int | None]],
        chosen: Sequence[int],
    ) -> Tensor:
        assert self._extensions is not None
        # What is left out of the text has the value of the text without it: any token may stand there.
        leaves = [[stems[at][-1] if token is None else token for token in following[at]] for at in chosen]
        silent = torch.tensor([[token is None for token in following[at]] for at in chosen], dtype=torch.bool)
        outputs = self._extensions.read(
            [contexts[at].row for at in chosen], [stems[at] for at in chosen], leaves
        ).cpu()
        stem, leaf = outputs[:, :1], outputs[:, 1:]
        return torch.cat([stem, torch.where(silent[..., None], stem, leaf)], dim=1)

    def _whole(self, stems: Sequence[tuple[int, ...]], following: Sequence[Sequence[int | None]]) -> Tensor:
        texts = [
            stem if token is None else (*stem, token)
            for stem, row in zip(stems, following, strict=True)
            for token in (None, *row)
        ]
        outputs = self._model.read_tokens(texts)
        return outputs.view(len(stems), -1, outputs.shape[-1])
