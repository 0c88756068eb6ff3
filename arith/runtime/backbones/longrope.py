"""Longrope: rotary angles that are others once a text is long (Ding et al. 2024)."""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig


def turning_lengths(config: PretrainedConfig) -> tuple[int, ...]:
    """The lengths beyond which the longest text of a forward turns all of them by other angles, in order."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(one for one in rope.values() if isinstance(one, Mapping))]  # or one for each layer type
    found = {_original_window(one, text) for one in kinds if one.get("rope_type") == "longrope"}
    return tuple(sorted(length for length in found if length < text.max_position_embeddings))


def _original_window(rope: Mapping[str, Any], text: Any) -> int:
    own = rope.get("original_max_position_embeddings")
    return int(own or getattr(text, "original_max_position_embeddings", None) or text.max_position_embeddings)
