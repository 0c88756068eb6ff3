"""Models of known sizes with random weights, which are made where they run and never written to a disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from transformers import LlamaConfig, PreTrainedModel

from arith import LLM
from arith.operands.llm import Weights
from arith.operands.loading import load_config, resolve_dtype
from arith.operands.tokenizers import load_tokenizer
from benchmarks.subject import DEMO

# Those of Llama 3.2 1B, Llama 2 7B and Llama 2 13B, with the vocabulary of the demo model.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "7B": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "13B": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
    },
}


@contextmanager
def synthetic(shape: dict[str, Any]) -> Iterator[str]:
    """The path of a model of this shape, which can be loaded while the context lasts."""
    demo = LLM(DEMO)
    with TemporaryDirectory(prefix="arith-bench-") as name:
        folder = Path(name)
        load_tokenizer(demo).save_pretrained(folder)
        own = load_config(demo.weights)
        config = LlamaConfig(
            **shape,
            vocab_size=own.vocab_size,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
            dtype="bfloat16",
            bos_token_id=own.bos_token_id,
            eos_token_id=own.eos_token_id,
            architectures=["LlamaForCausalLM"],
        )
        config.save_pretrained(folder)
        (folder / "model.safetensors").touch()  # by which the folder is known for a model
        with patch("arith.operands.loading.load_as", made):
            yield name


def made(auto_class: Any, _kind: str, weights: Weights, device: torch.device) -> PreTrainedModel:
    """The model with random weights, as `load_as` gives it."""
    with torch.device(device):
        built = auto_class.from_config(load_config(weights), dtype=resolve_dtype(weights, device))
    model: PreTrainedModel = built.eval()
    model.requires_grad_(False)
    return model
