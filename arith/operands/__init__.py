"""What a name in a formula stands for: declarations, prompt rendering, vocabularies and loading."""

from arith.operands.classifier import Classifier
from arith.operands.llm import LLM, Weights
from arith.operands.reward_model import RewardModel

__all__ = ["LLM", "Classifier", "RewardModel", "Weights"]
