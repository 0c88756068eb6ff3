"""Sequence classification models: what their configurations say of their outputs, and their weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from arith.errors import OperandError
from arith.operands.classifier import Classifier
from arith.operands.guide_operand import GuideOperand
from arith.operands.llm import Weights
from arith.operands.loading import load_as, load_config
from grammar.errors import nearest

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MULTI_LABEL = "multi_label_classification"
_SHOWN = 40


def load_sequence_model(weights: Weights, device: torch.device) -> "PreTrainedModel":
    """The model with its classification head; otherwise like `load_model`."""
    from transformers import AutoModelForSequenceClassification

    return load_as(AutoModelForSequenceClassification, "sequence classification model", weights, device)


def output_index(operand: GuideOperand) -> int:
    """Which of the model's outputs the operand means, told from its configuration before it is loaded.

    Raises `OperandError` for a label that the model doesn't have, for a classifier of one output (unless
    that is a probability by itself), and for a reward model of several.
    """
    config = load_config(operand.weights)
    labels = _labels(config)
    if not isinstance(operand, Classifier):
        if len(labels) != 1:
            raise OperandError(
                f"{operand.model} has {len(labels)} outputs ({_listed(labels)}), and a reward model has one",
                "declare it as a Classifier with one of these labels",
            )
        return 0
    if config.problem_type == "regression" or (len(labels) == 1 and config.problem_type != MULTI_LABEL):
        outputs = "one output, which is" if len(labels) == 1 else f"{len(labels)} outputs, which are"
        raise OperandError(
            f"{operand.model} has {outputs} no probability of a label",
            "declare it as a RewardModel" if len(labels) == 1 else None,
        )
    return _index(operand, labels)


def _index(operand: Classifier, labels: tuple[str, ...]) -> int:
    if isinstance(operand.label, int):
        if 0 <= operand.label < len(labels):
            return operand.label
        raise OperandError(
            f"{operand.model} has no label {operand.label}: its labels are numbered 0 to {len(labels) - 1}",
            f"they are {_listed(labels)}",
        )
    if operand.label in labels:
        return labels.index(operand.label)
    close = nearest(operand.label, labels)
    raise OperandError(
        f"{operand.model} has no label `{operand.label}`: its labels are {_listed(labels)}",
        f"did you mean `{close}`?" if close else None,
    )


def _labels(config: "PretrainedConfig") -> tuple[str, ...]:
    names: Mapping[Any, str] = config.id2label or {}
    return tuple(str(names[index]) for index in sorted(names, key=int))


def _listed(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more
