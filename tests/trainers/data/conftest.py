"""The tiny Llama's tokenizer, in which token n below 256 is byte n, and an operand for bare prompts."""

from typing import Any

import pytest

from arith.operands import LLM
from arith.operands.tokenizers import load_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


@pytest.fixture(scope="session")
def raw(tiny_llama: str) -> LLM:
    """A prompt is its bytes after a BOS."""
    return LLM(tiny_llama, template="raw")
