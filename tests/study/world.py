"""A tiny world with known rewards: language models whose next token has the same logits in every context."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.conftest import llama_config, save_tokenizer

NEVER = -40.0


def save_constant(folder: Path, logits: Mapping[int, float], elsewhere: float) -> str:
    """Writes a model with these logits by token id, and `elsewhere` for all other tokens; its path.

    Every embedding is the vector of ones, and no layer adds to it: the last norm leaves it as it is, and the
    output layer's rows sum to the logits.
    """
    import transformers

    size = save_tokenizer(folder)
    builder: Any = transformers.AutoModelForCausalLM
    model = builder.from_config(llama_config(size, rms_norm_eps=1e-12), dtype=torch.float32)
    output = torch.full((size,), elsewhere)
    for token, value in logits.items():
        output[token] = value
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.fill_(1)
        model.model.norm.weight.fill_(1)
        model.lm_head.weight.copy_(output[:, None].expand_as(model.lm_head.weight) / model.config.hidden_size)
    model.save_pretrained(folder)
    return str(folder)
