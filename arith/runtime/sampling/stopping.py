"""What ends a row besides an end-of-sequence token and its length: stop strings and stopping criteria."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arith.errors import OptionError
from arith.runtime.sampling.processors import checked_callables
from arith.runtime.sampling.text import TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class StopStrings:
    """Tells for one row when the text generated contains one of the strings.

    As in transformers, the token that completes the string, and the string itself, stay in the row, and the
    names of special tokens (`</s>`) can be stop strings. The prompt's text doesn't count.
    """

    def __init__(self, strings: Sequence[str], tokenizer: "PreTrainedTokenizerBase"):
        self._strings = tuple(strings)
        self._tokenizer = tokenizer
        # As much of the text as may be the beginning of a stop string.
        self._overlap = max(map(len, self._strings), default=1) - 1
        self.restart(())

    def restart(self, tokens: Sequence[int]) -> None:
        """The row has these tokens, by which it doesn't end, and no others."""
        self._decoder = TextDecoder(self._tokenizer, skip_special_tokens=False)
        self._tail = ""
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> bool:
        """Whether the text contains a stop string, now that the row has this token."""
        if not self._strings:
            return False
        certain = self._tail + self._decoder.push(token)
        text = certain + self._decoder.pending
        if any(string in text for string in self._strings):
            return True
        self._tail = certain[max(0, len(certain) - self._overlap) :]
        return False


class Criteria:
    """The stopping criteria given, each called for one row at a time."""

    def __init__(self, stopping_criteria: Iterable[Callable[[Any, Any], Any]] | None):
        self._given = checked_callables(stopping_criteria, "stopping_criteria")

    def __bool__(self) -> bool:
        return bool(self._given)

    def __call__(self, histories: Sequence[Sequence[int]], scores: Tensor) -> list[bool]:
        """Whether each row is done.

        A history is the row's `input_ids`: the first operand's prompt and the tokens generated. `scores`
        `[rows, vocab]` are those from which the last token was chosen; criteria get them as transformers
        gives them, a tuple with a tensor for each step, of which only the last step is kept here.
        """
        if not self._given:
            return [False] * len(histories)
        return [self._row_is_done(history, scores[row : row + 1]) for row, history in enumerate(histories)]

    def _row_is_done(self, history: Sequence[int], scores: Tensor) -> bool:
        input_ids = torch.tensor([list(history)], dtype=torch.int64, device=scores.device)
        done = False
        for criterion in self._given:
            name = type(criterion).__name__
            given = criterion(input_ids, (scores,))
            try:
                answer = torch.as_tensor(given)
            except (RuntimeError, TypeError, ValueError):
                raise OptionError(
                    f"stopping_criteria: {name} returned {given!r} in place of a truth value"
                ) from None
            if answer.numel() != 1:
                raise OptionError(
                    f"stopping_criteria: {name} answers one row with a tensor of shape {list(answer.shape)}, "
                    "not with one truth value"
                )
            # No shortcut: a criterion may count the steps it has seen.
            done = bool(answer) or done
        return done
