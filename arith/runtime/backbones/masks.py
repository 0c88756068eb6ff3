"""Attention masks over slots: who sees which position, for each kind of layer a model has."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

_ALIGNMENT = 16
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class MaskLayout:
    """The attention window of each kind of layer; None sees everything before it.

    Models whose layers are of different kinds take a dict of masks, the others a plain mask.
    """

    windows: dict[str, int | None]

    def build(self, positions: Tensor, length: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """Masks `[rows, 1, tokens, length]` for tokens at `positions` `[rows, tokens]`, to add to scores.

        They are 0 where a token sees a position, and the lowest number of `dtype` where it doesn't: eager
        attention takes no other kind, and torch's own would convert any other anew in every layer.
        """
        columns = _columns(length, positions.device)
        return self._masks(columns <= positions[:, None, :, None], columns, positions, length, dtype)

    def build_leaves(
        self, cells: Tensor, stems: Tensor, length: int, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """Like `build`, for tokens at `cells` `[rows, tokens]`, of which those from `stems` `[rows]` on are
        leaves.

        A row's cells before its stem's end are positions. Those behind are alternatives for the one position
        that follows: each sees the stem and itself.
        """
        columns = _columns(length, cells.device)
        ends = stems[:, None, None, None]
        own = cells[:, None, :, None]
        visible = (columns <= own) & (columns < ends) | (columns == own)
        return self._masks(visible, columns, cells.minimum(stems[:, None]), length, dtype)

    def _masks(
        self, visible: Tensor, columns: Tensor, positions: Tensor, length: int, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        by_window: dict[int | None, Tensor] = {}
        for window in self.windows.values():
            seen = visible
            if window is not None and window < length:
                seen = visible & (columns > positions[:, None, :, None] - window)
            by_window[window] = _additive(seen, dtype)[..., :length]
        if len(by_window) == 1:
            return by_window.popitem()[1]
        return {kind: by_window[window] for kind, window in self.windows.items()}


def mask_layout(config: PretrainedConfig) -> MaskLayout | str:
    """The layout for a model of this configuration, or why slots can't serve it."""
    text = config.get_text_config()
    implementation = getattr(text, "_attn_implementation", None)
    if implementation not in ("sdpa", "eager"):
        return f"its attention implementation is {implementation}"
    if getattr(text, "attention_chunk_size", None) is not None:
        return "it attends in chunks"
    kinds = set(getattr(text, "layer_types", None) or ())
    window = getattr(text, "sliding_window", None)
    if not kinds:
        kinds = {FULL if window is None else SLIDING}
    strange = sorted(kinds - {FULL, SLIDING})
    if strange:
        return f"it has layers of the kind {strange[0]}"
    if SLIDING in kinds and not isinstance(window, int):
        return "its attention windows differ from layer to layer"
    windows = {kind: window if kind == SLIDING else None for kind in sorted(kinds)}
    return MaskLayout(windows)


def _columns(length: int, device: torch.device) -> Tensor:
    """At least `length` of them: CUDA kernels take rows of aligned length as they are, and copy others in
    every layer."""
    return torch.arange(-(-length // _ALIGNMENT) * _ALIGNMENT, device=device)


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)
