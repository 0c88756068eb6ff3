"""Guides that read text, against a naive loop which classifies every candidate's text by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.errors import OperandError, PromptError
from arith.operands import LLM, Classifier, RewardModel
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.guides import load_guides
from arith.runtime.guides import sequence_model as sequence_model_file
from tests.conftest import save_tokenizer
from tests.runtime.guide_reference import CPU, PlainSequenceModel, close, context, guide_of
from tests.sequence_models import LABELS, save_bert_classifier, save_sequence_model, save_word_tokenizer

EOS = 257
TEXTS = (b"the thing is ", b"", b"a long text, about noth", b"Oh")
CANDIDATES = torch.tensor([[97, 98, 269, EOS], [116, 32, 46, 97], [105, 264, 110, 33], [104, 261, 260, 98]])


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


@pytest.fixture(scope="module")
def plain(tiny_classifier: str) -> PlainSequenceModel:
    return PlainSequenceModel(tiny_classifier)


def naive(
    tokenizer: Any, value: Callable[[str], Tensor], tokens: list[list[int]], candidates: Tensor
) -> tuple[Tensor, Tensor]:
    """`value` of each text with each candidate, and of each text without."""
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    extended = [
        [tokenizer.decode([*row, one], skip_special_tokens=True) for one in chosen]
        for row, chosen in zip(tokens, candidates.tolist(), strict=True)
    ]
    with_them = torch.stack([torch.stack([value(text) for text in row]) for row in extended])
    return with_them, torch.stack([value(text) for text in texts])[:, None]


@pytest.mark.parametrize("label", [*LABELS, 1])
def test_values_are_those_of_classifying_each_candidate_by_itself(
    tiny_classifier: str, tokenizer: Any, plain: PlainSequenceModel, label: str | int
) -> None:
    guide = guide_of(Classifier(tiny_classifier, label), tokenizer)
    tokens = [[*text] for text in TEXTS]
    contexts = [context(at, "p", row) for at, row in enumerate(tokens)]
    values, before = guide.values(contexts, CANDIDATES)
    index = label if isinstance(label, int) else LABELS.index(label)
    expected = naive(tokenizer, lambda text: plain.of_text(text).log_softmax(-1)[index], tokens, CANDIDATES)
    close(values, expected[0])
    close(before, expected[1])
    assert values.dtype == before.dtype == torch.float32
    assert float(values.std()) > 0.01  # the texts do differ
    close(guide.strengths(contexts, prompt=False), expected[1].exp())


def test_a_special_token_leaves_the_text_as_it_is(tiny_classifier: str, tokenizer: Any) -> None:
    guide = guide_of(Classifier(tiny_classifier, "rude"), tokenizer)
    values, before = guide.values([context(0, "p", [*b"so", EOS])], torch.tensor([[EOS, 97, 400]]))
    assert float(values[0, 0]) == float(values[0, 2]) == float(before[0, 0]) != float(values[0, 1])


def test_probabilities_of_all_labels_add_up_and_share_one_run(tiny_classifier: str, tokenizer: Any) -> None:
    operands = [Classifier(tiny_classifier, label) for label in LABELS]
    guides = load_guides(operands, tokenizer, CPU)
    contexts = [context(at, "p", [*text]) for at, text in enumerate(TEXTS)]
    total = sum(guides[one].strengths(contexts, prompt=False) for one in operands)
    torch.testing.assert_close(total, torch.ones(len(TEXTS), 1))
    stats = guides[operands[0]].stats
    assert (stats.texts_run, stats.cache_hits) == (len(TEXTS), 2 * len(TEXTS))
    assert guides[operands[2]].stats is stats


def test_the_prompt_stands_in_a_template_or_by_itself(
    tiny_classifier: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    template = "{tone}: {prompt}, {text}."
    guide = guide_of(Classifier(tiny_classifier, "casual", template=template), tokenizer)
    prompt = {"prompt": "hi {text}", "tone": "dry", "text": "mine"}
    row = context(0, prompt, [*b"oh"])
    expected = [
        plain.of_text(text).softmax(-1)[1] for text in ("dry: hi {text}, oh.", "dry: hi {text}, hi {text}.")
    ]
    close(guide.strengths([row], prompt=False), expected[0].view(1, 1))
    close(guide.strengths([row], prompt=True), expected[1].view(1, 1))
    chat = context(1, {"prompt": [{"role": "user", "content": "hi {text}"}], "tone": "dry"}, [*b"oh"])
    close(guide.strengths([chat], prompt=True), expected[1].view(1, 1))


def test_a_text_runs_once(tiny_classifier: str, tokenizer: Any) -> None:
    """Rows 0 and 1 are equal, and row 0's next step is one of its candidates."""
    guide = guide_of(Classifier(tiny_classifier, "formal"), tokenizer)
    rows = [context(0, "p", [*b"ab"]), context(1, "p", [*b"ab"])]
    first, _ = guide.values(rows, torch.tensor([[99, 100], [99, 100]]))
    assert (guide.stats.texts_run, guide.stats.cache_hits) == (3, 3)
    _, second = guide.values([context(0, "p", [*b"abc"])], torch.tensor([[101]]))
    assert (guide.stats.texts_run, guide.stats.cache_hits) == (4, 4)
    assert float(second) == float(first[0, 0])
    guide.reset()
    guide.strengths(rows, prompt=False)
    assert guide.stats.texts_run == 5


def test_the_texts_kept_are_bounded(
    tiny_classifier: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_model_file, "MOST_TEXTS", 2)
    guide = guide_of(Classifier(tiny_classifier, "formal"), tokenizer)
    row = [context(0, "p", [*b"ab"])]
    unbounded = guide.values(row, torch.tensor([[99, 100, 101]]))[0]
    assert guide.stats.texts_run == 4
    guide.values(row, torch.tensor([[100, 101]]))  # "abd" and "abe" were last; "ab" has to run again
    assert (guide.stats.texts_run, guide.stats.cache_hits) == (5, 2)
    torch.testing.assert_close(guide.values(row, torch.tensor([[99, 100, 101]]))[0], unbounded)


def test_batches_and_their_padding_change_no_value(
    tiny_classifier: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = guide_of(Classifier(tiny_classifier, "formal"), tokenizer)
    contexts = [context(at, "p", [*(b"the " * at)]) for at in range(9)]
    candidates = torch.tensor([[97, 98, 99]] * 9)
    together = guide.values(contexts, candidates)
    assert guide.stats.forwards == 1
    guide.reset()
    monkeypatch.setattr(sequence_model_file, "TOKENS_PER_FORWARD", 1)
    alone = guide.values(contexts, candidates)
    assert guide.stats.forwards == 1 + 36
    for found, expected in zip(together, alone, strict=True):
        close(found, expected)


def test_a_model_that_padding_disturbs_reads_texts_of_one_length_together(
    models_folder: Path, tokenizer: Any
) -> None:
    """XLNet takes its summary from the last position, padding or not."""
    from transformers import XLNetConfig

    folder = models_folder / "xlnet_classifier"
    size = save_word_tokenizer(folder)
    config = XLNetConfig(
        vocab_size=size, d_model=32, n_layer=2, n_head=4, d_inner=64, initializer_range=0.5,
        pad_token_id=0,
    )  # fmt: skip
    operand = Classifier(save_sequence_model(folder, config, seed=44, outputs=2), 1)
    plain = PlainSequenceModel(operand.model)
    tokens = [[*b"hi the"], [*b"a longer one"]]
    candidates = torch.tensor([[97, 98, 46], [97, 98, 46]])
    contexts = [context(at, "p", row) for at, row in enumerate(tokens)]
    guide = guide_of(operand, tokenizer)
    expected = naive(tokenizer, lambda text: plain.of_text(text).log_softmax(-1)[1], tokens, candidates)
    close(guide.values(contexts, candidates)[0], expected[0])
    assert guide.stats.forwards == 4  # two lengths for each row: a letter is a token's part, and `.` is not


def test_a_long_text_loses_its_beginning_and_keeps_the_special_tokens(
    tiny_classifier: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    """48 positions: [CLS], the last 46 of the text's tokens, [SEP]."""
    guide = guide_of(Classifier(tiny_classifier, "formal"), tokenizer)
    letters = "the dog " * 30
    values, before = guide.values([context(0, "p", [*letters.encode()])], torch.tensor([[122, 32]]))
    inner = plain.tokenizer(letters, add_special_tokens=False).input_ids
    assert len(inner) > 100
    z = plain.tokenizer("z", add_special_tokens=False).input_ids
    close(before, plain.of_tokens([2, *inner[-46:], 3]).log_softmax(-1)[:1].view(1, 1))
    close(values[:, :1], plain.of_tokens([2, *[*inner, *z][-46:], 3]).log_softmax(-1)[:1].view(1, 1))


def test_the_window_of_roberta_leaves_out_the_positions_behind_its_padding(
    models_folder: Path, tokenizer: Any
) -> None:
    """34 positions, of which padding's (0) comes first and real ones start at 1: 33 tokens fit."""
    from transformers import RobertaConfig

    folder = models_folder / "roberta_classifier"
    size = save_word_tokenizer(folder)
    config = RobertaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=34, initializer_range=0.5, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    operand = Classifier(save_sequence_model(folder, config, seed=41, outputs=2), "LABEL_1")
    plain = PlainSequenceModel(operand.model)
    found = guide_of(operand, tokenizer).strengths([context(0, "p", [*b"a b " * 40])], prompt=False)
    inner = plain.tokenizer("a b " * 40, add_special_tokens=False).input_ids
    close(found, plain.of_tokens([2, *inner[-31:], 3]).softmax(-1)[1].view(1, 1))
    with pytest.raises((IndexError, RuntimeError)):
        plain.of_tokens([2, *inner[-32:], 3])


def test_labels_that_exclude_no_other_have_probabilities_of_their_own(
    models_folder: Path, tokenizer: Any
) -> None:
    folder = models_folder / "multi_label"
    save_bert_classifier(folder, seed=42, problem_type="multi_label_classification")
    plain = PlainSequenceModel(str(folder))
    guide = guide_of(Classifier(folder, "rude"), tokenizer)  # type: ignore[arg-type]
    _, before = guide.values([context(0, "p", [*b"you fool"])], torch.tensor([[33]]))
    close(before, plain.of_text("you fool")[2].sigmoid().log().view(1, 1))


@pytest.mark.parametrize("pad", [None, 261])
def test_a_causal_classifier_reads_the_last_token_whatever_pads_the_batch(
    models_folder: Path, tokenizer: Any, pad: int | None
) -> None:
    """Candidates are the whole vocabulary: without a padding token of its own none is left to pad with."""
    from transformers import GPT2Config

    folder = models_folder / f"gpt2_classifier_{pad}"
    size = save_tokenizer(folder, add_bos=False)
    config = GPT2Config(
        vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5,
        bos_token_id=256, eos_token_id=257, pad_token_id=pad,
    )  # fmt: skip
    operand = Classifier(save_sequence_model(folder, config, seed=43, outputs=2), 1)
    plain = PlainSequenceModel(operand.model)
    tokens = [[*b"hi"], [*b"a longer one"]]
    candidates = torch.arange(256).repeat(2, 1)
    contexts = [context(at, "p", row) for at, row in enumerate(tokens)]
    expected = naive(tokenizer, lambda text: plain.of_text(text).log_softmax(-1)[1], tokens, candidates)
    values, before = guide_of(operand, tokenizer).values(contexts, candidates)
    close(values, expected[0])
    close(before, expected[1])
    nothing = guide_of(operand, tokenizer).strengths([context(0, "p", [])], prompt=False)
    close(nothing, plain.of_tokens([256]).softmax(-1)[1].view(1, 1))


def test_a_prompt_that_does_not_fit_is_refused_with_its_place(tiny_classifier: str, tokenizer: Any) -> None:
    guide = guide_of(Classifier(tiny_classifier, "formal", template="{topic} {text}"), tokenizer)
    with pytest.raises(PromptError, match=r"row 7: the template uses \{topic\}, but this prompt has no"):
        guide.values([context(7, "p", [97])], torch.tensor([[98]]))
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    guide = guide_of(Classifier(tiny_classifier, "formal"), tokenizer)
    guide.strengths([context(8, chat, [97])], prompt=False)
    with pytest.raises(PromptError, match=r"row 8: .* one user message, not for a chat of 2"):
        guide.strengths([context(8, chat, [97])], prompt=True)


def test_a_chat_reward_has_no_value_for_a_prompt_alone(tiny_reward: str, tokenizer: Any) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    with pytest.raises(OperandError, match=r"a prompt alone is no answer in one\nhint: .*\{text\}"):
        guide.strengths([context(0, "p", [97])], prompt=True)
