"""Which guides read the tokens of the formula, and which its text: the template and the tokenizer decide."""

from pathlib import Path
from typing import Any

import pytest
import torch

from arith.errors import OperandError
from arith.operands import LLM, Classifier, RewardModel
from arith.operands.tokenizers import load_tokenizer
from tests.conftest import save_tokenizer
from tests.runtime.guide_reference import PlainSequenceModel, close, context, guide_of
from tests.sequence_models import save_llama_reward, save_sequence_model

BOS, EOS = 256, 257


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


@pytest.fixture(scope="module")
def plain(tiny_reward: str) -> PlainSequenceModel:
    return PlainSequenceModel(tiny_reward)


@pytest.fixture(scope="module")
def closing_reward(models_folder: Path) -> str:
    """A reward model whose tokenizer puts an EOS behind every text."""
    import transformers
    from tokenizers import processors

    folder = save_llama_reward(models_folder / "closing_reward", seed=55)
    own: Any = transformers.AutoTokenizer.from_pretrained(folder)
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    own.save_pretrained(folder)
    return folder


def test_a_template_that_goes_on_is_read_as_text(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    """`t` and `he` are two tokens of the row, and ` the` is one of the text."""
    guide = guide_of(RewardModel(tiny_reward, template="{prompt}: {text}."), tokenizer)
    values, _ = guide.values([context(0, "hi", [*b"t"])], torch.tensor([[263, 97]]))
    close(values, torch.stack([plain.of_text(text) for text in ("hi: the.", "hi: ta.")]).view(1, 2))


def test_another_tokenizer_is_read_as_text(
    tiny_reward: str, tiny_other_tokenizer: str, plain: PlainSequenceModel
) -> None:
    """The formula's 97 is `b`, the reward model's `a`. Only the chat template writes a BOS."""
    guide = guide_of(RewardModel(tiny_reward), load_tokenizer(LLM(tiny_other_tokenizer)))
    values, before = guide.values([context(0, "p", [97])], torch.tensor([[98, 120]]))
    close(before, plain.of_tokens([*plain.chat("p"), *b"b"]).view(1, 1))
    expected = [plain.of_tokens([*plain.chat("p"), *b"ba"]), plain.of_tokens([*plain.chat("p"), *b"bx"])]
    close(values, torch.cat(expected)[None])


def test_a_causal_classifier_with_the_formulas_tokens_still_reads_text(
    models_folder: Path, tokenizer: Any
) -> None:
    folder = save_llama_reward(models_folder / "llama_classifier", seed=54, outputs=2)
    plain = PlainSequenceModel(folder)
    guide = guide_of(Classifier(folder, 0), tokenizer)
    values, _ = guide.values([context(0, "p", [*b"t"])], torch.tensor([[263]]))
    close(values, plain.of_text("the").log_softmax(-1)[:1].view(1, 1))


def test_a_tokenizer_that_closes_texts_is_read_as_text(closing_reward: str, tokenizer: Any) -> None:
    plain = PlainSequenceModel(closing_reward)
    guide = guide_of(RewardModel(closing_reward, template="{prompt}/{text}"), tokenizer)
    values, before = guide.values([context(0, "hi", [*b"yo"])], torch.tensor([[117]]))
    close(before, plain.of_tokens([BOS, *b"hi/yo", EOS]).view(1, 1))
    close(values, plain.of_tokens([BOS, *b"hi/you", EOS]).view(1, 1))


def test_nothing_is_added_to_what_a_chat_template_wrote(
    closing_reward: str, tokenizer: Any, tiny_other_tokenizer: str
) -> None:
    plain = PlainSequenceModel(closing_reward)
    stem = plain.chat("p")
    assert stem[-1] != EOS
    for formula in (tokenizer, load_tokenizer(LLM(tiny_other_tokenizer))):
        guide = guide_of(RewardModel(closing_reward), formula)
        values, before = guide.values([context(0, "p", [*b"yo"])], torch.tensor([[117]]))
        close(before, plain.of_tokens([*stem, *b"yo"]).view(1, 1))
        close(values, plain.of_tokens([*stem, *b"you"]).view(1, 1))


def test_a_stem_that_ends_in_padding_counts_as_the_model_counts_it(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    """The model takes the token before its padding for the last; with a candidate there is one behind."""
    guide = guide_of(RewardModel(tiny_reward, template="{prompt}<pad>{text}"), tokenizer)
    values, before = guide.values([context(0, "hi", [])], torch.tensor([[117]]))
    close(before, plain.of_tokens([BOS, *b"hi"]).view(1, 1))
    close(values, plain.of_tokens([BOS, *b"hi", 261, 117]).view(1, 1))


def test_a_model_that_reads_both_ways_runs_whole_texts(models_folder: Path, tokenizer: Any) -> None:
    from transformers import BertConfig

    folder = models_folder / "bert_reward"
    config = BertConfig(
        vocab_size=save_tokenizer(folder), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.5, pad_token_id=261,
    )  # fmt: skip
    operand = RewardModel(save_sequence_model(folder, config, seed=56, outputs=1))
    plain = PlainSequenceModel(operand.model)
    guide = guide_of(operand, tokenizer)
    assert guide.slower == "it takes no KV cache"
    values, _ = guide.values([context(0, "p", [*b"yo"])], torch.tensor([[117, 33]]))
    expected = [plain.of_tokens([*plain.chat("p"), *b"yo", last]) for last in (117, 33)]
    close(values, torch.cat(expected)[None])


def test_a_model_that_its_tokenizer_does_not_suit_is_refused(models_folder: Path, tokenizer: Any) -> None:
    """BART takes the summary of a text from its EOS, which this tokenizer doesn't write."""
    from transformers import BartConfig

    folder = models_folder / "bart_without_eos"
    config = BartConfig(
        vocab_size=save_tokenizer(folder), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
        pad_token_id=261, bos_token_id=256, eos_token_id=257, decoder_start_token_id=257,
    )  # fmt: skip
    operand = Classifier(save_sequence_model(folder, config, seed=57, outputs=3), 0)
    with pytest.raises(OperandError, match=r"can't read a text as its tokenizer makes it .*<eos> token"):
        guide_of(operand, tokenizer)


def test_a_template_with_two_places_is_read_as_text(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    guide = guide_of(RewardModel(tiny_reward, template="{text} or {text}"), tokenizer)
    values, _ = guide.values([context(0, "hi", [*b"x"])], torch.tensor([[121]]))
    close(values, plain.of_text("xy or xy").view(1, 1))
