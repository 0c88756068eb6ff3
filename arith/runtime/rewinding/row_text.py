"""The text of a row that may be taken back: which of its tokens wrote what."""

from typing import TYPE_CHECKING

from arith.runtime.sampling.text import TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RowText:
    """The text of a row's tokens, special ones left out, after each of them."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._decoders = [TextDecoder(tokenizer)]
        self._certain = [0]
        self._text = ""
        self.clean = 0  # the last number of tokens in whose text nothing begins that guards may yet reject

    @property
    def count(self) -> int:
        """How many tokens it has."""
        return len(self._certain) - 1

    @property
    def certain(self) -> str:
        """The text that no later token changes."""
        return self._text

    def sure(self, count: int) -> int:
        """How many characters were certain after `count` tokens."""
        return self._certain[count]

    def push(self, token: int) -> None:
        """Takes a token more."""
        decoder = self._decoders[-1].copy()
        self._text += decoder.push(token)
        self._decoders.append(decoder)
        self._certain.append(len(self._text))

    def cut(self, count: int) -> None:
        """Takes back all tokens but the first `count`."""
        del self._decoders[count + 1 :]
        del self._certain[count + 1 :]
        self._text = self._text[: self._certain[-1]]

    def pending(self, count: int) -> str:
        """The text behind what is certain, as it stands after `count` tokens."""
        return self._decoders[count].pending

    def whole(self, count: int) -> str:
        """The text if the row ended after `count` tokens."""
        return self._text[: self._certain[count]] + self.pending(count)

    def token_at(self, offset: int) -> int:
        """The number, from 0, of the token in which the character at `offset` begins; behind the text it is
        that of the next token."""
        count = self.count
        while self._certain[count] + len(self.pending(count)) > offset:
            count -= 1
        return count
