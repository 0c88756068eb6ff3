"""Attention of grouped heads without copies of their keys and values."""

import pytest
import torch

from arith.runtime.backbones import grouped_attention as module
from arith.runtime.backbones.grouped_attention import grouped_attention


@pytest.mark.parametrize("tokens", [1, 4, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_attention_is_attention_over_repeated_keys(tokens: int, dtype: torch.dtype) -> None:
    """Softmax of scaled products, written out in double precision for each head with its own copy."""
    rows, heads, groups, length, size = 2, 6, 3, 9, 8
    query = torch.randn(rows, heads, tokens, size).to(dtype)
    key, value = torch.randn(2, rows, heads // groups, length, size).to(dtype)
    seen = torch.rand(rows, 1, tokens, length) < 0.7
    seen[..., 0] = True
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    found, _ = grouped_attention(torch.nn.Module(), query, key, value, mask, scaling=0.3)
    keys, values = (one.double().repeat_interleave(groups, dim=1) for one in (key, value))
    scores = (0.3 * query.double() @ keys.mT).masked_fill(~seen, -torch.inf)
    expected = (scores.softmax(-1) @ values).transpose(1, 2)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_mask_is_repeated_once_for_all_layers_and_forgotten_with_it() -> None:
    """Masks of one shape come at one address one after another: each is repeated anew, none is kept."""
    query, (key, value) = torch.randn(1, 4, 3, 8), torch.randn(2, 1, 2, 5, 8)
    lowest = torch.finfo(torch.float32).min
    for hidden in range(5):
        mask = torch.zeros(1, 1, 3, 5)
        mask[..., hidden] = lowest
        kept = [position for position in range(5) if position != hidden]
        for _layer in range(2):
            found, _ = grouped_attention(torch.nn.Module(), query, key, value, mask)
            without, _ = grouped_attention(
                torch.nn.Module(), query, key[:, :, kept], value[:, :, kept], mask[..., kept]
            )
            torch.testing.assert_close(found, without)
        assert len(module._repeated) == 1
    del mask
    assert not module._repeated
