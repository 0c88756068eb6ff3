"""Loading the guides of a formula."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from arith.errors import OperandError
from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import Weights
from arith.operands.loading import context_window, load_config
from arith.operands.precision import keeps_half
from arith.operands.reward_model import RewardModel
from arith.operands.sequence_models import load_sequence_model, output_index
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.backbones.head import MISFITS, misfit
from arith.runtime.guides.encoder import TextEncoder
from arith.runtime.guides.extensions import Extensions, extensions
from arith.runtime.guides.guide import Guide
from arith.runtime.guides.sequence_model import SequenceModel
from arith.runtime.guides.text_reader import TextReader
from arith.runtime.guides.token_reader import TokenReader, reads_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_guides(
    operands: Iterable[GuideOperand], tokenizer: "PreTrainedTokenizerBase", device: torch.device
) -> dict[GuideOperand, Guide]:
    """A guide for each of the operands, those with equal weights over one loaded model.

    `tokenizer` is that of the formula's first operand. Raises `OperandError` for a model that can't be found
    or read, that isn't a whole sequence classification model, or whose outputs aren't what the operand says.
    """
    operands = list(dict.fromkeys(operands))
    for operand in operands:
        output_index(operand)
    models: dict[Weights, SequenceModel] = {}
    guides = {}
    for operand in operands:
        model = models.get(operand.weights)
        if model is None:
            model = models[operand.weights] = load_sequence_reader(operand, device)
        guides[operand] = _guide(operand, model, tokenizer, device)
    return guides


def load_sequence_reader(operand: GuideOperand, device: torch.device) -> SequenceModel:
    """The operand's model with its tokenizer. Raises `OperandError` as `load_guides` does."""
    own_tokenizer = load_tokenizer(operand)
    model = load_sequence_model(operand.weights, device)
    encoder = TextEncoder(own_tokenizer, operand.model, _window(model, own_tokenizer))
    try:
        half = keeps_half(operand.weights, (), load_config(operand.weights), device)
        return SequenceModel(model, encoder, half=half)
    except MISFITS as error:
        reason = misfit(error)
        raise OperandError(
            f"{operand.model} can't read a text as its tokenizer makes it ({reason})"
        ) from error


def _guide(
    operand: GuideOperand,
    model: SequenceModel,
    tokenizer: "PreTrainedTokenizerBase",
    device: torch.device,
) -> Guide:
    texts = TextReader(operand, model, tokenizer)
    if not isinstance(operand, RewardModel) or not reads_tokens(operand, model.encoder, tokenizer):
        return Guide(operand, model, texts, None, device, slower=None)
    found = extensions(model)
    slower = found if isinstance(found, str) else None
    tokens = TokenReader(operand, model, tokenizer, texts, found if isinstance(found, Extensions) else None)
    return Guide(operand, model, texts, tokens, device, slower)


def _window(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The most tokens that both the model and its tokenizer allow."""
    limits = [tokenizer.model_max_length]
    window = context_window(model.config)
    if window is not None:
        limits.append(window - _reserved_positions(model))
    return min(limits)


def _reserved_positions(model: "PreTrainedModel") -> int:
    """RoBERTa and its kin count positions from behind that of their padding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0
