"""The vocabulary over which the operands of one formula are combined."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arith.errors import OperandError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[str | None, ...]

_SHOWN = 3


@dataclass(frozen=True)
class Member:
    """One operand's side: its tokenizer, the width of its logits, and its `vocab` policy."""

    tokenizer: "PreTrainedTokenizerBase"
    logits_size: int
    policy: str


@dataclass(frozen=True)
class Vocabulary:
    """The formula runs over token ids `0 … size - 1`; `notes` say in words what was trimmed to get there."""

    size: int
    notes: tuple[str, ...]


def common_vocabulary(members: Mapping[str, Member]) -> Vocabulary:
    """The part of the vocabulary that all operands (by name) share.

    Where all have the same tokens and the same width of logits, that is the width, padding included.
    Otherwise it is the ids which are a token of every tokenizer and a logit of every model. Raises
    `OperandError` when an id stands for different tokens, or when a "strict" operand's would be trimmed.
    """
    tables = {name: _tokens(member.tokenizer) for name, member in members.items()}
    sizes = {name: (len(tables[name]), member.logits_size) for name, member in members.items()}
    first, *others = members
    for name in others:
        _check_agreement(first, tables[first], name, tables[name])
    if len(set(sizes.values())) == 1:
        return Vocabulary(sizes[first][1], ())
    size = min(min(pair) for pair in sizes.values())
    extents = ", ".join(
        f"`{name}` {tokens} tokens, {logits} logits" for name, (tokens, logits) in sizes.items()
    )
    for name, member in members.items():
        if member.policy == "strict":
            raise OperandError(
                f"the operands' vocabularies differ in length ({extents}), and `{name}` has vocab `strict`",
                f"with vocab `common` the formula runs over the first {size} tokens",
            )
    trimmed = ", ".join(f"`{name}` ({max(pair) - size})" for name, pair in sizes.items() if max(pair) > size)
    return Vocabulary(size, (f"vocabulary: the {size} tokens in common ({extents}); trimmed: {trimmed}",))


def _tokens(tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """The token of every id, None for an id that is no token."""
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    return tuple(by_id.get(index) for index in range(max(by_id) + 1))


def _check_agreement(left: str, left_tokens: Tokens, right: str, right_tokens: Tokens) -> None:
    pairs = zip(left_tokens, right_tokens, strict=False)
    differing = [index for index, (mine, theirs) in enumerate(pairs) if mine != theirs]
    if not differing:
        return
    shown = "; ".join(
        f"{index} is {left_tokens[index]!r} for `{left}` and {right_tokens[index]!r} for `{right}`"
        for index in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise OperandError(
        f"the tokenizers of `{left}` and `{right}` disagree: token {shown}{more}",
        "a formula combines models over one tokenizer; choose operands of one model family",
    )
