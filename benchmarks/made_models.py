"""Adapters and models that are made of the measured one, in a folder that goes when the benchmark ends."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from arith.operands.loading import load_config
from arith.operands.quiet import quiet
from arith.operands.tokenizers import load_tokenizer
from benchmarks.subject import Subject

RANK = 8


@contextmanager
def made_in() -> Iterator[Path]:
    """A folder for models, which goes afterwards."""
    with TemporaryDirectory(prefix="arith-bench-") as folder:
        yield Path(folder)


def save_lora(subject: Subject, folder: Path, seed: int) -> str:
    """Writes a LoRA adapter of every linear layer of the decoder, of random weights; its path."""
    from peft import LoraConfig, get_peft_model

    model = subject.plain(subject.dtype)
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    with torch.random.fork_rng(), warnings.catch_warnings(), quiet():
        # peft reads a property that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        adapted.save_pretrained(str(folder))
    return str(folder)


def save_truncated(subject: Subject, folder: Path, layers: int) -> str:
    """Writes the model without all but its first layers; its path."""
    return _save_layers(subject, folder, lambda own: own[:layers])


def save_deepened(subject: Subject, folder: Path, times: int, share: float) -> str:
    """Writes a model of so many times the layers, which costs as many times as much and says nearly the same;
    its path. The layers behind those of the subject are its own once more, adding `share` of what they would
    add."""

    def deepened(own: list[Any]) -> list[Any]:
        more = [copy.deepcopy(layer) for _ in range(times - 1) for layer in own]
        for layer in more:
            layer.self_attn.o_proj.weight *= share
            layer.mlp.down_proj.weight *= share
        return [*own, *more]

    return _save_layers(subject, folder, deepened)


def _save_layers(subject: Subject, folder: Path, chosen: Callable[[list[Any]], list[Any]]) -> str:
    model: Any = subject.plain(subject.dtype)
    model.model.layers = torch.nn.ModuleList(chosen(list(model.model.layers)))
    model.config.num_hidden_layers = len(model.model.layers)
    with quiet():
        model.save_pretrained(folder)
        model.config.dtype = load_config(subject.operand().weights).dtype  # to be loaded as that one is
        model.config.save_pretrained(folder)
        load_tokenizer(subject.operand()).save_pretrained(folder)
    return str(folder)
