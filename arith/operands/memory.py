"""How much memory a model and its KV cache take, told from its configuration before anything is loaded."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arith.errors import OperandError
from arith.operands.adapters import adapter_source
from arith.operands.gguf import COMPUTE_DTYPE, conversion
from arith.operands.guide_operand import GuideOperand
from arith.operands.hub import reading
from arith.operands.llm import Weights
from arith.operands.loading import resolve_device
from arith.operands.locate import locate
from arith.operands.packed_linear import packs
from arith.operands.packing import packed_kind
from arith.operands.precision import default_dtype, keeps_half, named_dtype
from arith.operands.reward_model import RewardModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Bytes for each weight of a linear layer: bitsandbytes' nf4 keeps 4 bits, and a float32 for every 64 of them.
_QUANTIZED_BYTES = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of weights and adapters, bytes of KV cache for each token of each lane, and their dtype.

    half: whether linear layers keep float16 weights (see `keeps_half`). loading_bytes: what the weights take
    beyond these while they are loaded.
    """

    weights_bytes: int
    kv_bytes_per_token: int
    dtype: torch.dtype
    half: bool = False
    loading_bytes: int = 0


@dataclass(frozen=True)
class _Checkpoint:
    """A model on this machine: its configuration, its folder, and the dtype and device that it will have."""

    config: "PretrainedConfig"
    folder: Path
    dtype: torch.dtype
    device: torch.device


def estimate(
    weights: Weights, adapters: Sequence[str], device: torch.device | None = None
) -> MemoryEstimate | None:
    """The memory on `device` (the default one when None), or None when a part isn't on this machine.

    Never downloads and never loads weights. Raises `OperandError` for a local path that isn't there.
    """
    from transformers import AutoModelForCausalLM

    found = _checkpoint(weights, device)
    adapter_folders = {one: folder for one in adapters if (folder := _adapter_folder_here(one))}
    if found is None or len(adapter_folders) < len(adapters):
        return None
    model = _without_weights(AutoModelForCausalLM, weights, found)
    adapter_weights = sum(_adapter_weights(*one) for one in adapter_folders.items())
    half = keeps_half(weights, adapters, found.config, found.device)
    return _estimate(model, weights, found, half, _kv_values(found.config), adapter_weights)


def estimate_guide(operand: GuideOperand, device: torch.device | None = None) -> MemoryEstimate | None:
    """`estimate` for a classifier or reward model.

    A KV cache, one lane a row, is counted for every causal reward model: whether it keeps one depends on the
    tokens of the formula too.
    """
    from transformers import AutoModelForSequenceClassification

    found = _checkpoint(operand.weights, device)
    if found is None:
        return None
    model = _without_weights(AutoModelForSequenceClassification, operand.weights, found)
    cached = isinstance(operand, RewardModel) and "past_key_values" in signature(model.forward).parameters
    half = keeps_half(operand.weights, (), found.config, found.device)
    return _estimate(model, operand.weights, found, half, _kv_values(found.config) if cached else 0)


def _estimate(
    model: Any, weights: Weights, found: _Checkpoint, half: bool, kv_values: int, adapter_weights: int = 0
) -> MemoryEstimate:
    kept, size = _weights_bytes(model, weights, found, half), found.dtype.itemsize
    whole = sum(parameter.numel() for parameter in model.parameters()) * size if half else 0
    return MemoryEstimate(
        weights_bytes=kept + adapter_weights * size,
        kv_bytes_per_token=kv_values * size,
        dtype=found.dtype,
        half=half,
        loading_bytes=max(0, whole - kept),
    )


def _checkpoint(weights: Weights, device: torch.device | None) -> _Checkpoint | None:
    folder = _folder_here(weights.model, weights.revision)
    if folder is None:
        return None
    config = _config_here(weights.model, folder)
    device = resolve_device(None) if device is None else device
    dtype = named_dtype(weights.dtype) if weights.dtype is not None else default_dtype(config, device)
    return _Checkpoint(config, folder, dtype, device)


def _folder_here(model: str, revision: str | None) -> Path | None:
    """The folder with the model's files; for a GGUF file its conversion, or before that its own folder."""
    location = locate(model)
    if location.local and location.gguf_file is not None:
        file = Path(location.source) / location.gguf_file
        return conversion(file) or Path(location.source)
    folder = Path(location.source) if location.local else _snapshot(model, "config.json", revision)
    if folder is None:
        return None
    lacking = _lacking(folder)
    if lacking is not None and location.local:
        raise OperandError(f"the model folder {model} has no whole weights: it lacks {lacking}")
    return folder if lacking is None else None


def _lacking(folder: Path) -> str | None:
    """The first file of weights that isn't there, None where they are whole."""
    for index in folder.glob("*.index.json"):
        with reading("the list of weights", str(index)):
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [file for file in files if not (folder / file).is_file()]
        if missing:
            return str(missing[0])
    there = any(file for pattern in _WEIGHT_FILES for file in folder.glob(pattern))
    return None if there else "model.safetensors"


def _snapshot(repository: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, file, revision=revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _config_here(model: str, folder: Path) -> "PretrainedConfig":
    from transformers import AutoConfig

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if not (folder / "config.json").is_file():
        options["gguf_file"] = locate(model).gguf_file
    with reading("the configuration", model):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, **options)
    if "gguf_file" in options:
        config.dtype = COMPUTE_DTYPE
    return config


def _adapter_folder_here(adapter: str) -> Path | None:
    source = adapter_source(adapter)
    if Path(source).is_dir():
        return Path(source)
    return _snapshot(source, "adapter_config.json", None)


def _adapter_weights(adapter: str, folder: Path) -> int:
    """The number of weights in an adapter, from the header of its file."""
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        return sum(binary.stat().st_size for binary in folder.glob("adapter_model.bin")) // 4
    with reading("the weights", f"the adapter {adapter}"), safe_open(file, framework="pt") as tensors:
        shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
    return sum(torch.Size(shape).numel() for shape in shapes)


def _without_weights(builder: Any, weights: Weights, found: _Checkpoint) -> Any:
    """The model on the meta device: its parameters take no memory."""
    with reading("the architecture", weights.model), torch.device("meta"):
        return builder.from_config(copy.deepcopy(found.config), dtype=found.dtype, trust_remote_code=False)


def _weights_bytes(model: Any, weights: Weights, found: _Checkpoint, half: bool) -> int:
    folder, dtype = found.folder, found.dtype
    if getattr(found.config, "quantization_config", None) is not None and (folder / "config.json").is_file():
        # Only the checkpoint knows how its own quantisation packs weights.
        return sum(file.stat().st_size for pattern in _WEIGHT_FILES for file in folder.glob(pattern))
    known = _linear_bytes(model, weights, found, half)
    sizes = {
        id(parameter): known.get(id(parameter), parameter.numel() * dtype.itemsize)
        for parameter in model.parameters()
    }
    return int(sum(sizes.values())) + _tied_copies(model, found, half)


def _linear_bytes(model: Any, weights: Weights, found: _Checkpoint, half: bool) -> dict[int, float]:
    """The bytes of the matrices of linear layers that are quantised or packed, by their ids."""
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    if weights.quantization is not None:
        head, size = model.get_output_embeddings(), _QUANTIZED_BYTES[weights.quantization]
        return {id(one.weight): one.weight.numel() * size for one in linears if one is not head}
    if not packs(found.device, found.dtype):
        return {}
    embeddings = _embeddings(model)
    matrices = [one.weight for one in linears if type(one) is torch.nn.Linear]
    return {id(one): _packed_bytes(one, found, half) for one in matrices if one is not embeddings}


def _tied_copies(model: Any, found: _Checkpoint, half: bool) -> int:
    """The bytes of matrices which are embeddings and an output layer both, and need two layouts for that."""
    head = model.get_output_embeddings()
    if head is None or not packs(found.device, found.dtype) or type(head) is not torch.nn.Linear:
        return 0
    if head.weight is not _embeddings(model):
        return 0
    return _packed_bytes(head.weight, found, half)


def _packed_bytes(matrix: torch.Tensor, found: _Checkpoint, half: bool) -> int:
    outputs, inputs = matrix.shape
    return packed_kind(matrix.shape, found.dtype, half=half).bytes_for(outputs, inputs, found.dtype)


def _embeddings(model: Any) -> torch.Tensor | None:
    """The matrix of the input embeddings; None for the few models that have none, or don't tell it."""
    try:
        return getattr(model.get_input_embeddings(), "weight", None)
    except NotImplementedError:
        return None


def _kv_values(config: "PretrainedConfig") -> int:
    """Numbers that one token adds to the cache: keys and values of every attention layer."""
    text = config.get_text_config()
    heads = next(
        (
            value
            for name in ("num_key_value_heads", "num_kv_heads", "num_attention_heads")
            if isinstance(value := getattr(text, name, None), int)
        ),
        None,
    )
    if heads is None:  # a purely recurrent model
        return 0
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    layers = sum("attention" in kind and "linear" not in kind for kind in kinds)
    if hasattr(text, "qk_nope_head_dim"):  # latent attention, which transformers caches unfolded
        return int(layers * heads * (text.qk_nope_head_dim + text.qk_rope_head_dim + text.v_head_dim))
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * layers * heads * head_size)
