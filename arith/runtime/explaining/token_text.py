"""Tokens as a reader sees them: text, special tokens, and bytes that are no text by themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arith.operands.token_texts import texts_of
from arith.runtime.sampling.text import BYTE_TOKEN, REPLACEMENT, TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenKind = Literal["text", "special", "bytes", "unknown"]


@dataclass(frozen=True)
class TokenText:
    """What one token is.

    text: what it adds to a text, the space before a word included; a special token as it is written; of a
        token that is a part of a character only, its bytes in hexadecimal, as `‹F0 9F›`; of one that the
        tokenizer doesn't know, its number, as `‹49153›`.
    kind: which of these.
    """

    text: str
    kind: TokenKind


def token_texts_of(tokenizer: "PreTrainedTokenizerBase", tokens: Iterable[int]) -> dict[int, TokenText]:
    """Each of the tokens as it is by itself."""
    distinct = list(dict.fromkeys(tokens))
    special = tokenizer.added_tokens_decoder
    found: dict[int, TokenText] = {}
    for token, text in zip(distinct, texts_of(tokenizer, distinct), strict=True):
        if token >= len(tokenizer):
            found[token] = TokenText(f"‹{token}›", "unknown")
        elif token in special and special[token].special:
            found[token] = TokenText(text, "special")
        elif REPLACEMENT in text and (content := _bytes_of(tokenizer, token)) is not None:
            found[token] = TokenText(f"‹{content.hex(' ').upper()}›", "bytes")
        else:
            found[token] = TokenText(text, "text")
    return found


def texts_in_place(
    tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], alone: dict[int, TokenText]
) -> list[TokenText]:
    """Each token as it is in this sequence: the last of the tokens that a character is made of has the
    character. `alone` are the tokens by themselves."""
    decoder = TextDecoder(tokenizer, skip_special_tokens=False)
    found = []
    for token in tokens:
        piece, own = decoder.push(token), alone[token]
        completes = own.kind == "bytes" and piece.strip() != "" and REPLACEMENT not in piece
        found.append(TokenText(piece, "text") if completes else own)
    return found


def _bytes_of(tokenizer: "PreTrainedTokenizerBase", token: int) -> bytes | None:
    """The bytes of a token in one of the two ways that vocabularies write them, or None."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    written = str(tokenizer.convert_ids_to_tokens(token))
    if BYTE_TOKEN.fullmatch(written):
        return bytes.fromhex(written[3:5])
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
    if not all(character in byte_of for character in written):
        return None
    return bytes(byte_of[character] for character in written)
