"""Tiny sequence classification models on disk: random weights, and for some a tokenizer of their own."""

from pathlib import Path
from typing import Any

import torch

from tests.conftest import llama_config, save_tokenizer

LABELS = ("formal", "casual", "rude")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def save_word_tokenizer(folder: Path, **settings: Any) -> int:
    """Write a lower-casing WordPiece tokenizer over letters and a few words, as BERT has; return its size."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokens = [*WORD_SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "##ing", ".", ",", "!"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    new_tokenizer: Any = transformers.PreTrainedTokenizerFast
    new_tokenizer(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        **settings,
    ).save_pretrained(folder)
    return len(tokens)


def save_sequence_model(folder: Path, config: Any, *, seed: int, outputs: int | None = None) -> str:
    """Write a randomly initialised sequence classification model; leaves torch's random state as it was."""
    import transformers

    if outputs is not None:
        config.num_labels = outputs
    builder: Any = transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


def save_bert_classifier(folder: Path, *, seed: int = 31, **changes: Any) -> str:
    """BERT of two layers and 48 positions, three labels, over the word tokenizer."""
    from transformers import BertConfig

    size = save_word_tokenizer(folder)
    settings: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 48,
        "initializer_range": 0.5,
        "id2label": dict(enumerate(LABELS)),
    }
    return save_sequence_model(folder, BertConfig(**(settings | changes)), seed=seed)


def save_llama_reward(
    folder: Path,
    *,
    seed: int = 32,
    outputs: int = 1,
    tokenizer: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A Llama reward model, or with more outputs a classifier, over the tokenizer of the tiny Llamas."""
    size = save_tokenizer(folder, **(tokenizer or {}))
    return save_sequence_model(folder, llama_config(size, **changes), seed=seed, outputs=outputs)
