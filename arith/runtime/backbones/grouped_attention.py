"""Attention of grouped heads without copies of their keys and values, in compiled programs too.

The queries of the heads that share keys stand as further tokens of one head (grouped-query attention, Ainslie
et al. 2023). transformers does so for single tokens where nothing is compiled, and else repeats the keys.
"""

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from arith.runtime.backbones.ragged import Ragged

NAME = "arith_grouped_sdpa"
_EXTRAS = ("softcap", "position_bias", "s_aux", "cache")  # what transformers' own takes besides


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
        apart = grouped_attention(
            module, ragged.pad(query), key, value, attention_mask, dropout, scaling, **others
        )
        return ragged.unpad(apart[0]), None
    rows, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    extras = others and any(others.get(name) is not None for name in _EXTRAS)
    if attention_mask is None or groups == 1 or extras:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    mask = (
        attention_mask.expand(-1, -1, groups, -1) if tokens == 1 else attention_mask.repeat(1, 1, groups, 1)
    )
    queries = query.reshape(rows, key.shape[1], groups * tokens, size)
    attended = nn.functional.scaled_dot_product_attention(queries, key, value, attn_mask=mask, scale=scaling)
    return attended.reshape(rows, heads, tokens, value.shape[-1]).transpose(1, 2).contiguous(), None


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
