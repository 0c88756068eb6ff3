"""Sets of tokens by what they are, whatever the distributions of a step."""

import re

import torch
from torch import Tensor

from arith.language.argument import Domain, Literal, Token
from arith.language.inputs import Inputs
from arith.language.registry import operator
from arith.language.values import Dist, Mask
from arith.language.vocabulary import compiled, refuse_beyond


def _compiles(pattern: str) -> bool:
    try:
        compiled(pattern)
    except re.error:
        return False
    return True


PATTERN = Domain("a regular expression, as Python's `re` reads it", _compiles)
A_TOKEN = Domain(
    "the number of a token, or its text",
    lambda token: isinstance(token, str) or (token >= 0 and token % 1 == 0),
)


@operator("matching", example='within(base, matching("[a-z ]*"))', domains={"pattern": PATTERN})
def matching(inputs: Inputs, pattern: Literal) -> Mask:
    """The tokens whose whole text matches a regular expression; special tokens by their names.

    A token's text is what it adds to the text before it, so most words begin with a space. Where special
    tokens such as `<|im_end|>` are left out, a text can't end by itself.
    """
    return inputs.asked.matching(pattern).to(inputs.device)


@operator("tokens", example='base - 3*tokens(" very", 13)', domains={"tokens": A_TOKEN})
def tokens(inputs: Inputs, *tokens: Token) -> Mask:
    """The tokens given, by their numbers or by their texts in quotes."""
    return _mask(inputs, tokens)


@operator(
    "except_tokens",
    example='except_tokens(base, " very", 13)',
    passes_shift=["f"],
    domains={"tokens": A_TOKEN},
)
def except_tokens(inputs: Inputs, f: Dist, *tokens: Token) -> Dist:
    """`f` without the tokens given, by their numbers or by their texts in quotes."""
    return f.restrict(~_mask(inputs, tokens))


def _mask(inputs: Inputs, tokens: tuple[float | str, ...]) -> Tensor:
    mask = torch.zeros(1, inputs.vocabulary, dtype=torch.bool, device=inputs.device)
    for token in tokens:
        number = inputs.asked.token(token) if isinstance(token, str) else int(token)
        refuse_beyond(number, inputs.vocabulary)
        mask[0, number] = True
    return mask
