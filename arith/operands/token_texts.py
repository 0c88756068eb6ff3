"""What each token of a vocabulary adds to a text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANCHOR = "a"


def token_texts(tokenizer: "PreTrainedTokenizerBase", size: int) -> list[str]:
    """The texts of tokens 0 to `size` - 1: what each adds behind a letter, so that the space with which most
    words begin is part of it. Special tokens are as they are written, and tokens that the tokenizer doesn't
    know are empty."""
    anchor = tokenizer(ANCHOR, add_special_tokens=False)["input_ids"][-1]
    known = min(size, len(tokenizer))
    decoded = tokenizer.batch_decode(
        [[anchor], *([anchor, token] for token in range(known))], clean_up_tokenization_spaces=False
    )
    before = len(decoded[0])
    texts = [text[before:] for text in decoded[1:]]
    for token, added in tokenizer.added_tokens_decoder.items():
        if token < known:
            texts[token] = added.content
    return texts + [""] * (size - known)
