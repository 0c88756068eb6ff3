"""The texts of a vocabulary's tokens, and the tokens that texts and patterns stand for."""

import re
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from grammar.errors import FormulaError

LISTED = 5


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression; `re.error` where it is none. What Python may read otherwise one day is no news
    to those who write a formula."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(pattern)


class Vocabulary:
    """Tokens by their texts. `texts` holds that of each token, special tokens as they are written."""

    def __init__(self, texts: Sequence[str]):
        self.texts = tuple(texts)

    def matching(self, pattern: str) -> Tensor:
        """The tokens `[1, vocab]` whose whole text matches the regular expression."""
        expression = compiled(pattern)
        found = [expression.fullmatch(text) is not None for text in self.texts]
        return torch.tensor([found], dtype=torch.bool)

    def token(self, text: str) -> int:
        """The token with exactly this text. Raises `FormulaError` where there is none, or more than one."""
        found = [number for number, known in enumerate(self.texts) if known == text]
        if len(found) == 1:
            return found[0]
        if found:
            more = ", …" if len(found) > LISTED else ""
            listed = ", ".join(map(str, found[:LISTED])) + more
            message = f'{len(found)} tokens have the text "{text}": {listed}'
            raise FormulaError(message, None, "name the one you mean by its number")
        close = [f'"{known}"' for known in self.texts if known.strip() == text.strip() != ""][:LISTED]
        hint = f"there is {', '.join(close)}" if close else "a text may be several tokens: name each of them"
        raise FormulaError(f'no token of the vocabulary is "{text}"', None, hint)


def refuse_beyond(token: int, vocabulary: int) -> None:
    """Raises `FormulaError` for the number of a token that a vocabulary of this size lacks."""
    if token >= vocabulary:
        raise FormulaError(f"there is no token {token}: the vocabulary has {vocabulary}")


def refuse_more(k: int, vocabulary: int) -> None:
    """Raises `FormulaError` for more candidates than a vocabulary of this size has tokens."""
    if k > vocabulary:
        raise FormulaError(f"`k` of `guide` is {k}, and the vocabulary has {vocabulary} tokens")
