"""What a name in a formula stands for: declarations, prompt rendering, vocabularies and loading."""

from arith.operands.llm import LLM, Weights

__all__ = ["LLM", "Weights"]
