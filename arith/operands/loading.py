"""Model weights in memory, and what the checkpoint says of them."""

import functools
import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from arith.errors import OperandError
from arith.operands.hub import led_to, reading
from arith.operands.llm import LLM, Weights
from arith.operands.precision import default_dtype, named_dtype
from arith.operands.source import pretrained
from arith.operands.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def resolve_device(device: str | None) -> torch.device:
    """The named device, or without a name the best here: cuda, mps, cpu. `OperandError` if it isn't here."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device is None:
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise OperandError(f"`{device}` isn't a device", "it may be cuda, cuda:1, mps or cpu, say") from None
    if resolved.type == "cuda" and not cuda:
        raise OperandError("the device cuda was asked for, but torch sees no CUDA device here")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise OperandError(f"the device {device} was asked for, but there are {torch.cuda.device_count()}")
    if resolved.type == "mps" and not mps:
        raise OperandError("the device mps was asked for, but torch sees none here")
    return resolved


def resolve_dtype(weights: Weights, device: torch.device) -> torch.dtype:
    """The declared dtype, else the checkpoint's own where the device computes in it, else float32."""
    if weights.dtype is not None:
        return named_dtype(weights.dtype)
    return default_dtype(load_config(weights), device)


def load_config(weights: Weights) -> "PretrainedConfig":
    """The model's configuration, read once. Raises `OperandError` when it can't be found or read."""
    return _config(weights.model, weights.revision)


@functools.cache
def _config(model: str, revision: str | None) -> "PretrainedConfig":
    from transformers import AutoConfig

    source, options = pretrained(model, revision)
    with reading("the configuration", model):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, **options)
    return config


def load_model(weights: Weights, device: torch.device) -> "PreTrainedModel":
    """The model on `device` (or where its `device_map` says), in evaluation mode, without gradients.

    Raises `OperandError` when it can't be found or read, when the checkpoint lacks some of the model's
    tensors (transformers would fill these with random numbers), or when its quantisation can't run here.
    """
    from transformers import AutoModelForCausalLM

    return load_as(AutoModelForCausalLM, "causal language model", weights, device)


def load_as(
    auto_class: Any,
    kind: str,
    weights: Weights,
    device: torch.device | None,
    new_tensors: Collection[str] = (),
    **settings: Any,
) -> "PreTrainedModel":
    """`load_model` for any of transformers' automatic classes; `kind` says in words what it loads.

    device: None leaves the placement to what shards the weights. new_tensors: names of those that the
    checkpoint need not have. settings: further ones of `from_pretrained`.
    """
    dtype = resolve_dtype(weights, device or torch.device("cpu"))
    source, options = pretrained(weights.model, weights.revision)
    with reading("the model", weights.model):
        model, report = auto_class.from_pretrained(
            source,
            dtype=dtype,
            device_map=weights.device_map or (None if device is None else {"": device}),
            quantization_config=_quantization(weights, dtype, device or resolve_device(None)),
            output_loading_info=True,
            **settings,
            **options,
        )
    missing = sorted(set(report["missing_keys"]).difference(new_tensors))
    if missing:
        raise OperandError(
            f"{weights.model} isn't a whole {kind}: its checkpoint lacks {len(missing)} of its tensors, the "
            f"first being {missing[0]}"
        )
    model.eval()
    model.requires_grad_(False)
    if model.device.type == "cuda":
        # cuDNN's attention makes a plan for every length of the keys, and decoding has a new one each step.
        cast(Any, torch.backends.cuda).enable_cudnn_sdp(False)
    model.name_or_path = weights.model  # what its user calls it, and not where a conversion is kept
    loaded: PreTrainedModel = model
    return loaded


def _quantization(weights: Weights, dtype: torch.dtype, device: torch.device) -> Any:
    """transformers' configuration for the declared quantisation; None leaves the checkpoint as it is."""
    if weights.quantization is None:
        return None
    import transformers

    own = getattr(load_config(weights), "quantization_config", None)
    if own is not None:
        raise OperandError(f"{weights.model} is quantised already", "leave `quantization` out")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise OperandError(
            f"quantization `{weights.quantization}` needs the package bitsandbytes",
            "pip install bitsandbytes",
        )
    if device.type != "cuda":
        raise OperandError(f"quantization `{weights.quantization}` needs a CUDA device, not {device.type}")
    settings: Any = transformers.BitsAndBytesConfig
    if weights.quantization == "8bit":
        return settings(load_in_8bit=True)
    return settings(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def end_ids(operand: LLM) -> frozenset[int]:
    """End-of-sequence ids: the generation config's, else the config's, else the tokenizer's. May be empty."""
    declared = _generation_eos(operand.weights.model, operand.revision)
    if declared is None:
        declared = load_config(operand.weights).get_text_config().eos_token_id
    if declared is None:
        declared = load_tokenizer(operand).eos_token_id
    if declared is None:
        return frozenset()
    return frozenset([declared] if isinstance(declared, int) else declared)


@functools.cache
def _generation_eos(model: str, revision: str | None) -> int | list[int] | None:
    from huggingface_hub.errors import EntryNotFoundError
    from transformers import GenerationConfig

    source, options = pretrained(model, revision)
    del options["trust_remote_code"]
    folder = Path(source)
    if folder.is_dir() and not (folder / "generation_config.json").is_file():
        return None
    try:
        with reading("the generation config", model):
            config = GenerationConfig.from_pretrained(source, **options)
    except OperandError as error:
        if led_to(error, EntryNotFoundError):  # many models of the hub have none
            return None
        raise
    eos: int | list[int] | None = config.eos_token_id
    return eos


def context_window(config: "PretrainedConfig") -> int | None:
    """The most positions the model was made for, or None for a model without such a limit."""
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    return window if isinstance(window, int) and window > 0 else None  # XLNet says -1


def depth(config: "PretrainedConfig") -> int:
    """The number of the model's layers. Raises `OperandError` where the configuration doesn't tell it."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(layers, int):
        raise OperandError(f"the configuration of {config.name_or_path} doesn't tell its number of layers")
    return layers
