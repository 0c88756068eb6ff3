"""From a declared operand to a model whose weights, or whose adapter, can be trained."""

from dataclasses import dataclass
from typing import Any

import torch

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.adapters import attach
from arith.operands.llm import Weights
from arith.operands.loading import load_as, resolve_dtype
from arith.operands.quiet import quiet
from trainers.models.adapter_keys import AdapterKeys
from trainers.models.targets import adapter_targets

HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Precision:
    """`dtype` is that of the operand; `weights` that of the weights in training, which in a full fine-tune
    keep the small steps that a half would round away."""

    dtype: torch.dtype
    weights: torch.dtype

    @classmethod
    def of(cls, operand: LLM, device: torch.device, *, full: bool) -> "Precision":
        dtype = resolve_dtype(operand.weights, device)
        return cls(dtype, torch.float32 if full and dtype in HALVES else dtype)


def load_trainable(
    operand: LLM,
    adapter: AdapterKeys | None,
    precision: Precision,
    device: torch.device | None,
    *,
    rewards: bool,
    attention: str | None,
    seed: int,
) -> Any:
    """The model: with `adapter` a peft model whose adapter alone is trained, in float32; else all of it.

    device: None where something else places the weights. rewards: a sequence classification model of one
    output. attention: transformers' name of an attention implementation. seed: of the new weights.

    Raises `OperandError` for what can't be loaded or trained, and for adapter targets the model lacks.
    """
    name = str(precision.weights).removeprefix("torch.")
    weights = Weights(operand.weights.model, operand.revision, name, operand.quantization, operand.device_map)
    torch.manual_seed(seed)
    model = load_weights(weights, device, rewards=rewards, attention=attention)
    if operand.adapter is not None:
        if adapter is not None:
            raise OperandError(
                f"the operand has the adapter {operand.adapter} already, and an adapter on top of another "
                "couldn't be named by a formula",
                "train without `adapter` (the old one is merged into the weights), or from the base model",
            )
        model = attach(model, [operand.adapter])[0].merge_and_unload()
    if adapter is None:
        if operand.quantization is not None:
            raise OperandError(
                f"quantised weights ({operand.quantization}) can't be trained", "give the recipe an `adapter`"
            )
        model.requires_grad_(True)
        return model
    return _adapted(model, adapter, rewards, quantized=operand.quantization is not None)


def load_weights(
    weights: Weights, device: torch.device | None, *, rewards: bool, attention: str | None
) -> Any:
    """The model with these weights; the arguments are those of `load_trainable`."""
    import transformers

    options = {} if attention is None else {"attn_implementation": attention}
    if not rewards:
        return load_as(transformers.AutoModelForCausalLM, "causal language model", weights, device, **options)
    kind = "sequence classification model"
    kind_of_model = transformers.AutoModelForSequenceClassification
    head = ("score.weight", "score.bias")
    model: Any = load_as(kind_of_model, kind, weights, device, head, num_labels=1, **options)
    if model.config.get_text_config().pad_token_id is None:
        # It only has to be there: the scores are taken at the last token of each text.
        eos = model.config.get_text_config().eos_token_id
        model.config.get_text_config().pad_token_id = eos[0] if isinstance(eos, list) else eos or 0
    return model


def _adapted(model: Any, adapter: AdapterKeys, rewards: bool, *, quantized: bool) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    made_ready: Any = prepare_model_for_kbit_training
    new_config: Any = LoraConfig
    config = new_config(
        task_type="SEQ_CLS" if rewards else "CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter_targets(model, adapter.targets),
        use_dora=adapter.dora,
    )
    with quiet():
        if quantized:
            model = made_ready(model, use_gradient_checkpointing=False)
        return get_peft_model(model, config)
