"""peft adapters: what their configuration says, and putting them onto a loaded model."""

import copy
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from arith.errors import OperandError
from arith.operands.hub import hub_reachable, may_be_hub_id, reading
from arith.operands.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

# Settings of a LoRA adapter that take it beyond the plain sum `W x + s·B(A x)`, and how to say so.
_BEYOND_PLAIN_LORA = {
    "use_dora": "it uses DoRA",
    "modules_to_save": "it has whole modules of its own (modules_to_save)",
    "trainable_token_indices": "it has token embeddings of its own (trainable_token_indices)",
    "lora_bias": "it has biases of its own (lora_bias)",
    "layer_replication": "it repeats layers (layer_replication)",
    "target_parameters": "it adapts bare parameters (target_parameters)",
    "alora_invocation_tokens": "it is an activated LoRA (alora_invocation_tokens)",
    "use_qalora": "it uses QA-LoRA",
    "use_bdlora": "it uses block-diagonal LoRA",
    "arrow_config": "it routes between adapters (arrow_config)",
    "monteclora_config": "it samples its weights (monteclora_config)",
    "kasa_config": "it uses KaSA",
    "velora_config": "it uses VeLoRA",
}

# In the model's own dtype, and without drawing initial weights (and with them from torch's random numbers).
_IN_PLACE: dict[str, Any] = {"autocast_adapter_dtype": False, "low_cpu_mem_usage": True}
_PEFT_ROOT = "base_model.model."
_MISMATCH = re.compile(
    r"size mismatch for (?P<tensor>\S+): .*?torch\.Size\((?P<given>.*?)\).*?torch\.Size\((?P<fitting>.*?)\)"
)
_WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")


def adapter_source(adapter: str) -> str:
    """The folder of a local adapter, else the hub id. Raises `OperandError` for a path that isn't there."""
    path = Path(os.path.expanduser(adapter))
    if os.path.isdir(path):
        if not (path / "adapter_config.json").is_file():
            raise OperandError(f"{adapter} isn't a peft adapter: it has no adapter_config.json")
        if not any((path / file).is_file() for file in _WEIGHT_FILES):
            raise OperandError(f"the adapter {adapter} has no weights: it lacks {_WEIGHT_FILES[0]}")
        return str(path)
    if os.path.exists(path) or not may_be_hub_id(adapter):
        raise OperandError(f"there is no adapter folder at {adapter}")
    return adapter


@functools.cache
def adapter_config(adapter: str) -> "PeftConfig":
    """The adapter's configuration. Raises `OperandError` if it can't be found or can't be an operand."""
    from peft import PeftConfig

    source = adapter_source(adapter)
    with reading("the adapter configuration", adapter):
        config: PeftConfig = PeftConfig.from_pretrained(source, **_options(source))
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise OperandError(
            f"the adapter {adapter} is of the kind {_kind(config)}: adapters that put tokens of their own "
            "before the prompt can't be operands",
            "LoRA and the other adapters of weights can",
        )
    return config


def unmixable(adapter: str) -> str | None:
    """Why the adapter can't share a forward pass with lanes of other adapters; None when it can."""
    config = adapter_config(adapter)
    if _kind(config) != "LORA":
        return f"it is of the kind {_kind(config)}, not LoRA"
    for setting, reason in _BEYOND_PLAIN_LORA.items():
        if getattr(config, setting, None):
            return reason
    bias = getattr(config, "bias", "none")
    return None if bias == "none" else f"it has biases of its own (bias: {bias})"


def attach(model: "PreTrainedModel", adapters: Sequence[str]) -> "tuple[PeftModel, dict[str, str]]":
    """Put every adapter (at least one) onto `model`, which is changed in place.

    Returns the peft model, in evaluation mode and in the model's dtype, and the peft name of each adapter.
    Raises `OperandError` for an adapter that is missing or wasn't made for this architecture and size.
    """
    from peft import PeftModel

    names = {adapter: f"adapter{number}" for number, adapter in enumerate(dict.fromkeys(adapters), start=1)}
    peft_model: PeftModel | None = None
    for adapter, name in names.items():
        config = copy.deepcopy(adapter_config(adapter))
        config.inference_mode = True
        try:
            with quiet():
                if peft_model is None:
                    peft_model = PeftModel(model, config, adapter_name=name, **_IN_PLACE)
                report = _load(peft_model, adapter, name)
        except (ValueError, RuntimeError, LookupError, AttributeError, TypeError) as error:
            raise OperandError(_misfit(adapter, model, _reason(error, config)), _made_for(config)) from error
        strangers = [*report.missing_keys, *report.unexpected_keys]
        if strangers:
            first = strangers[0].removeprefix(_PEFT_ROOT)
            reason = f"{len(strangers)} tensors have no counterpart, the first being {first}"
            raise OperandError(_misfit(adapter, model, reason), _made_for(config))
    assert peft_model is not None
    peft_model.eval()
    peft_model.requires_grad_(False)
    return peft_model, names


def _load(peft_model: "PeftModel", adapter: str, name: str) -> Any:
    """peft's report on the tensors it loaded; a file that can't be read isn't a misfit."""
    from safetensors import SafetensorError

    source = adapter_source(adapter)
    try:
        return peft_model.load_adapter(
            source, name, torch_device=str(peft_model.device), **_IN_PLACE, **_options(source)
        )
    except (OSError, EOFError, SafetensorError, UnpicklingError):
        with reading("the weights", f"the adapter {adapter}"):
            raise


def _kind(config: "PeftConfig") -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def _options(source: str) -> dict[str, Any]:
    return {"local_files_only": Path(source).is_dir() or not hub_reachable()}


def _misfit(adapter: str, model: "PreTrainedModel", reason: str) -> str:
    return f"the adapter {adapter} doesn't fit {model.name_or_path} ({model.config.model_type}): {reason}"


def _made_for(config: "PeftConfig") -> str | None:
    base = config.base_model_name_or_path
    return f"it was made for {base}" if base else None


def _reason(error: Exception, config: "PeftConfig") -> str:
    """What peft says, without the names that it gives to modules and adapters itself."""
    text = str(error)
    mismatch = _MISMATCH.search(text)
    if mismatch is not None:
        module = mismatch["tensor"].removeprefix(_PEFT_ROOT).partition(".lora_")[0]
        return f"size mismatch in {module}: {mismatch['given']} in place of {mismatch['fitting']}"
    targets = getattr(config, "target_modules", None)
    if text.startswith("Target modules") and targets:
        named = targets if isinstance(targets, str) else ", ".join(sorted(targets))
        return f"it adapts modules that the model doesn't have ({named})"
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


def untuned_modules(model: "nn.Module") -> "dict[str, nn.Module]":
    """All modules of a model by their places, but for peft's tuner layers and what is inside them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    tuned: list[Any] = [one for one in model.modules() if isinstance(one, BaseTunerLayer)]
    inside = {id(part) for layer in tuned for part in layer.modules()}
    return {place: one for place, one in model.named_modules() if id(one) not in inside}
