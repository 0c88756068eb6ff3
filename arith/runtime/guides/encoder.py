"""From text to the tokens that a guide's model reads, no more than fit its window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arith.errors import OperandError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encoding = Mapping[str, Sequence[int]]
"""The inputs of a model for one text by their names, `input_ids` and perhaps `token_type_ids`."""

IDS = "input_ids"
_ADDED = "special_tokens_mask"


class TextEncoder:
    """Encodes text for one model. What is too long for its window loses its beginning, but never the tokens
    that the tokenizer adds around a text, nor a BOS.

    `name` is the model's, for errors. `window` is the most tokens that it reads, None without a limit.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str, window: int | None):
        self.tokenizer = tokenizer
        self.window = window
        self._name = name

    @property
    def closes(self) -> bool:
        """Whether the tokenizer adds tokens behind a text."""
        return bool(self._encode(["a"], special=True)[_ADDED][0][-1])

    def encode(self, texts: Sequence[str], *, special: bool) -> list[Encoding]:
        """The inputs of each text. `special`: with the special tokens that the tokenizer adds to a text.

        A text without a token is read as the tokenizer's BOS, or else its EOS, alone. Raises `OperandError`
        where it has neither.
        """
        found = self._encode(texts, special=special)
        return [
            self._cut({name: column[at] for name, column in found.items()}, self.window)
            for at in range(len(texts))
        ]

    def beginning(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The tokens of the beginning of a text, whole, for `shorten` to cut when the rest has come."""
        found = self._encode([text], special=special)
        return tuple(self._cut({name: column[0] for name, column in found.items()}, None)[IDS])

    def shorten(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens as they fit the window: a BOS and the last ones."""
        if self.window is None or len(tokens) <= self.window:
            return tokens
        lead = int(tokens[0] == self.tokenizer.bos_token_id)
        return (*tokens[:lead], *tokens[len(tokens) - (self.window - lead) :])

    def _encode(self, texts: Sequence[str], *, special: bool) -> Any:
        return self.tokenizer(
            list(texts),
            add_special_tokens=special,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            verbose=False,
        )

    def _cut(self, one: dict[str, list[int]], window: int | None) -> Encoding:
        ids, added = one[IDS], one.pop(_ADDED)
        if not ids:
            return {IDS: [self._start()]}
        bos = self.tokenizer.bos_token_id
        first = 0
        while bos is not None and ids[first : first + 2] == [bos, bos]:  # one of them is the text's own
            first += 1
        lead = first
        while lead < len(ids) and (added[lead] or (lead == first and ids[lead] == bos)):
            lead += 1
        begin = lead if window is None else max(lead, len(ids) - (window - (lead - first)))
        if (first, lead) == (0, begin):
            return one
        return {name: [*column[first:lead], *column[begin:]] for name, column in one.items()}

    def _start(self) -> int:
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        raise OperandError(
            f"{self._name} has an empty text to read, and its tokenizer has neither a BOS nor an EOS",
            "give it a template with further words",
        )
