"""What engines are compared with: plain transformers, whole sequences, no cache, no padding, peft itself."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from arith import LLM


class Plain:
    """One model, alone or with one adapter."""

    def __init__(self, model: str, adapter: str | None = None):
        import transformers
        from peft import PeftModel

        builder: Any = transformers.AutoModelForCausalLM
        self.model = builder.from_pretrained(model, dtype=torch.float32)
        if adapter is not None:
            self.model = PeftModel.from_pretrained(self.model, adapter)
        self.model.eval()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model)

    def raw(self, text: str) -> list[int]:
        """A prompt's tokens as the tokenizer encodes text by default."""
        return list(self.tokenizer(text).input_ids)

    @torch.inference_mode()
    def log_probs(self, tokens: Sequence[int], count: int) -> Tensor:
        """`[count, vocab]`: behind each of the last `count` tokens the log-probabilities of the next."""
        logits = self.model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits
        return torch.as_tensor(logits)[0, len(tokens) - count :].log_softmax(-1)

    @torch.inference_mode()
    def greedy(self, tokens: Sequence[int], count: int) -> list[int]:
        """What transformers' `generate` writes behind the tokens."""
        ids = torch.tensor([list(tokens)])
        mask = torch.ones_like(ids)
        found = self.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count)
        return [int(token) for token in found[0, len(tokens) :]]


@functools.cache
def plain(model: str, adapter: str | None = None) -> Plain:
    with warnings.catch_warnings():
        # peft reads a property that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return Plain(model, adapter)


def raw(model: str, adapter: str | None = None) -> LLM:
    """An operand that reads its prompt as it is."""
    return LLM(model, adapter=adapter, template="raw")


def fused(
    combine: Callable[..., Tensor],
    operands: Mapping[str, LLM],
    prompts: Mapping[str, Sequence[int]],
    tokens: Sequence[int],
    **further: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """A formula written out in torch, at each of a row's tokens, and what each operand says there.

    `combine` takes the operands' log-probabilities `[tokens, vocab]` by name and `further`; both parts of the
    answer are `[tokens, vocab]`, those that predict the tokens.
    """
    single = {
        name: plain(operand.model, operand.adapter).log_probs([*prompts[name], *tokens[:-1]], len(tokens))
        for name, operand in operands.items()
    }
    return combine(**single, **further).log_softmax(-1), single


def chosen(log_probs: Tensor, tokens: Sequence[int]) -> list[float]:
    """The log-probability of each token at its own position."""
    return [float(log_probs[position, token]) for position, token in enumerate(tokens)]


class Script(LogitsProcessor):
    """Leaves a row no choice but these tokens; `prompt_length` is that of the first operand's prompt."""

    def __init__(self, prompt_length: int, tokens: Iterable[int]):
        self.prompt_length = prompt_length
        self.tokens = list(tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens[input_ids.shape[1] - self.prompt_length]
        forced = torch.full_like(scores, -torch.inf)
        forced[:, token] = 0.0
        return forced
