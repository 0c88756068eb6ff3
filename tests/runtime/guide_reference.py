"""What guides are compared with: plain transformers, one text at a time, no cache, no padding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arith.operands.guide_operand import GuideOperand
from arith.runtime.guides import Context, Guide, load_guides

CPU = torch.device("cpu")


class PlainSequenceModel:
    """A sequence classification model and its tokenizer, each text in a forward of its own."""

    def __init__(self, folder: str):
        import transformers

        builder: Any = transformers.AutoModelForSequenceClassification
        self.model = builder.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def of_tokens(self, tokens: Sequence[int]) -> Tensor:
        """The outputs `[outputs]` of one text."""
        logits = self.model(input_ids=torch.tensor([list(tokens)])).logits
        return torch.as_tensor(logits)[0]

    def of_text(self, text: str) -> Tensor:
        return self.of_tokens(self.tokenizer(text).input_ids)

    def chat(self, prompt: str) -> list[int]:
        """The tokens of a user's message in the tokenizer's chat template, open for an answer."""
        messages = [{"role": "user", "content": prompt}]
        found = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return list(found["input_ids"])


def guide_of(operand: GuideOperand, tokenizer: Any) -> Guide:
    return load_guides([operand], tokenizer, CPU)[operand]


def context(row: object, prompt: Any, tokens: Sequence[int]) -> Context:
    return Context(row, prompt, tokens, f"row {row}")


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=1e-4)
