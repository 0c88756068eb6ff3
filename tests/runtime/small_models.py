"""Small models of many kinds, with what their backbones give and what it should be."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from arith.runtime.backbones.backbone import Backbone, LaneRequest
from tests.runtime.plain import Plain, prompt

LAYERS = 4
SMALL: dict[str, Any] = {
    "vocab_size": 270,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 16}  # of another width than the hidden states


def save(kind: str, settings: dict[str, Any], folder: Path) -> str:
    """A model of this kind of configuration, with drawn weights."""
    config: Any = getattr(transformers, f"{kind}Config")(**settings)
    builder: Any = transformers.AutoModelForCausalLM
    torch.manual_seed(1)
    builder.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


def logits_of(backbone: Backbone, adapters: tuple[str | None, ...] = (None, None)) -> list[Tensor]:
    """Those after ragged prompts, after a step, and after different numbers of further tokens."""
    requests = [
        LaneRequest(adapter, prompt(length), 2) for adapter, length in zip(adapters, (19, 3), strict=True)
    ]
    lanes, opened = backbone.open(requests)
    stepped = backbone.step(lanes, [5, 7])
    return [*opened, *stepped[:, None], *backbone.extend(lanes, [[9], [11, 12, 13]])]


def plain_logits(plain: Plain) -> list[Tensor]:
    first, second = prompt(19), prompt(3)
    return [
        plain(first, 2),
        plain(second, 2),
        plain([*first, 5]),
        plain([*second, 7]),
        plain([*first, 5, 9]),
        plain([*second, 7, 11, 12, 13], 3),
    ]
