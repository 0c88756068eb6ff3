"""What each token of a vocabulary adds to a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANCHOR = "a"


def token_texts(tokenizer: "PreTrainedTokenizerBase", size: int) -> list[str]:
    """The texts of tokens 0 to `size` - 1, as `texts_of` gives them."""
    return texts_of(tokenizer, range(size))


def texts_of(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> list[str]:
    """The text of each token: what it adds behind a letter, so that the space with which most words begin is
    part of it. Special tokens are as they are written, and tokens that the tokenizer doesn't know are
    empty."""
    anchor = tokenizer(ANCHOR, add_special_tokens=False)["input_ids"][-1]
    known = [token for token in dict.fromkeys(tokens) if token < len(tokenizer)]
    decoded = tokenizer.batch_decode(
        [[anchor], *([anchor, token] for token in known)], clean_up_tokenization_spaces=False
    )
    before = len(decoded[0])
    texts = {token: text[before:] for token, text in zip(known, decoded[1:], strict=True)}
    added = tokenizer.added_tokens_decoder
    texts |= {token: added[token].content for token in known if token in added}
    return [texts.get(token, "") for token in tokens]
