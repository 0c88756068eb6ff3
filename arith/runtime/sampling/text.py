"""Text as its tokens arrive."""

import copy
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How tokenizers with byte fallback write a byte that belongs to no token of theirs.
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
REPLACEMENT = "\ufffd"


class TextDecoder:
    """Decodes the tokens of one row one by one.

    The pieces of `push`, followed by that of `flush`, are exactly the text that the tokenizer decodes from
    all the tokens at once. Text that a later token may still change (a character of which some bytes are
    missing) is held back until it can't.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, skip_special_tokens: bool = True):
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._cleans_up = _cleans_up(tokenizer)
        # Only a window of the last tokens is decoded. It opens with tokens whose text has been given out, for
        # many tokenizers treat the first token of a text in a way of its own.
        self._window: list[int] = []
        self._given_tokens = 0
        self._given = 0
        self._text = ""

    @property
    def pending(self) -> str:
        """The text held back, as it stands."""
        return self._text[self._given :]

    def copy(self) -> "TextDecoder":
        """Another decoder that goes on from here."""
        other = copy.copy(self)
        other._window = list(self._window)
        return other

    def push(self, token: int) -> str:
        """The text that became certain with this token, often empty."""
        self._window.append(token)
        before, self._text = self._text, self._decode(self._window)
        if self._text == before:
            # A token left out of the text (a special one) makes nothing certain: a character may go on.
            return ""
        piece = self._text[self._given : self._certain(token)]
        self._given += len(piece)
        if self._given == len(self._text) and not self._cleans_up:
            self._move_window()
        return piece

    def flush(self) -> str:
        """The rest of the text, when no token follows."""
        piece = self.pending
        self._given = len(self._text)
        return piece

    def _certain(self, token: int) -> int:
        """The length of the window's text that no later token changes."""
        if self._cleans_up:
            # Two spaces may still go at once: ` n`, `'` and `t` become `n't`.
            first, *last_two = self._text.rsplit(" ", 2)
            return len(first) if len(last_two) == 2 else 0
        # A run of byte tokens is decoded as a whole: to replacement characters alone if any of it is wrong.
        if BYTE_TOKEN.fullmatch(str(self._tokenizer.convert_ids_to_tokens(token))):
            return self._given
        return len(self._text) - self._text.endswith(REPLACEMENT)

    def _move_window(self) -> None:
        """Let the window open with the last tokens given out, if they make any text."""
        opening = self._window[self._given_tokens :]
        text = self._decode(opening)
        self._given_tokens = len(self._window)
        if text:
            self._window, self._text = opening, text
            self._given_tokens, self._given = len(opening), len(text)

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(tokens, skip_special_tokens=self._skip_special_tokens)
        assert isinstance(text, str)
        return text


def _cleans_up(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer takes spaces out of decoded text (` .` becomes `.`), so that none is certain."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    bpe = backend is not None and type(backend.model).__name__ == "BPE"
    bpe_too = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    return bool(tokenizer.clean_up_tokenization_spaces and (not bpe or getattr(tokenizer, bpe_too, False)))
