"""Attention of grouped heads without copies of their keys and values, in compiled programs too.

The queries of the heads that share keys stand as further tokens of one head (grouped-query attention, Ainslie
et al. 2023). transformers does so for single tokens where nothing is compiled, and else repeats the keys.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from arith.runtime.backbones.ragged import Ragged

NAME = "arith_grouped_sdpa"
_EXTRAS = ("softcap", "position_bias", "s_aux", "cache")  # what transformers' own takes besides
_MANY = 16  # tokens, from which on the kernels of a CPU are as quick for each head by itself
# The layers of a forward are given the same masks, which live as long as it does.
_repeated: MutableMapping[Tensor, dict[int, Tensor]] = WeakTensorKeyDictionary()


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    ragged: Ragged | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' `sdpa` for inference. Queries `[rows, heads, tokens, size]`; keys and values of fewer
    heads; the result `[rows, tokens, heads, size]`. With `ragged` the queries of all rows are one, and so is
    the result."""
    if ragged is not None:
        padded = ragged.pad(query)
        found = grouped_attention(module, padded, key, value, attention_mask, dropout, scaling, **others)
        return ragged.unpad(found[0]), None
    rows, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    extras = others and any(others.get(name) is not None for name in _EXTRAS)
    if attention_mask is None or groups == 1 or extras:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return plain
    if tokens >= _MANY and query.device.type == "cpu":
        apart = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
        )
        return apart.transpose(1, 2).contiguous(), None
    queries = query.reshape(rows, key.shape[1], groups * tokens, size)
    mask = _for_groups(attention_mask, groups)
    attended = nn.functional.scaled_dot_product_attention(queries, key, value, attn_mask=mask, scale=scaling)
    # [rows, tokens, key heads, groups, size]
    by_token = attended.view(rows, -1, groups, tokens, value.shape[-1]).permute(0, 3, 1, 2, 4)
    return by_token.reshape(rows, tokens, heads, value.shape[-1]), None


def _for_groups(mask: Tensor, groups: int) -> Tensor:
    """The mask `[rows, 1, tokens, length]` for queries `[rows, heads, groups * tokens, size]`."""
    if mask.shape[2] == 1:
        return mask.expand(-1, -1, groups, -1)
    if torch.compiler.is_compiling():
        return mask.repeat(1, 1, groups, 1)
    by_groups = _repeated.setdefault(mask, {})
    if groups not in by_groups:
        by_groups[groups] = mask.repeat(1, 1, groups, 1)
    return by_groups[groups]


def attention_of_one(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float
) -> Tensor:
    """The same for one token a row, in fewer calls: queries `[rows, 1, heads, size]`, keys and values
    `[rows, key heads, length, size]`; the result `[rows, 1, heads * size]`."""
    rows, _, heads, size = query.shape
    groups = heads // key.shape[1]
    attended = nn.functional.scaled_dot_product_attention(
        query.view(rows, key.shape[1], groups, size),
        key,
        value,
        attn_mask=attention_mask.expand(-1, -1, groups, -1),
        scale=scaling,
    )
    return attended.reshape(rows, 1, heads * value.shape[-1])


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let a model whose attention is `sdpa` compute it this way."""
    if model.config.get_text_config()._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
