"""Reward models that go on from their KV cache, against plain forwards over the whole token sequences."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.operands import LLM, RewardModel
from arith.operands.tokenizers import load_tokenizer
from arith.runtime.guides import Context, Guide, load_guides
from arith.runtime.guides import extensions as extensions_file
from tests.runtime.guide_reference import CPU, PlainSequenceModel, close, context, guide_of
from tests.sequence_models import save_llama_reward, save_sequence_model

BOS, EOS = 256, 257


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: str) -> Any:
    return load_tokenizer(LLM(tiny_llama))


@pytest.fixture(scope="module")
def plain(tiny_reward: str) -> PlainSequenceModel:
    return PlainSequenceModel(tiny_reward)


def naive(
    plain: PlainSequenceModel, stems: Sequence[Sequence[int]], candidates: Tensor
) -> tuple[Tensor, Tensor]:
    """The reward of each stem with each candidate token, and of each stem."""
    with_them = [
        torch.cat([plain.of_tokens([*stem, one]) for one in row])
        for stem, row in zip(stems, candidates.tolist(), strict=True)
    ]
    return torch.stack(with_them), torch.stack([plain.of_tokens(stem) for stem in stems])


def check(
    guide: Guide, plain: PlainSequenceModel, rows: Sequence[tuple[Context, str]], candidates: Tensor
) -> None:
    """The guide's values for rows (context, and its prompt) against `naive`."""
    values, before = guide.values([one for one, _ in rows], candidates)
    expected = naive(plain, [[*plain.chat(prompt), *one.tokens] for one, prompt in rows], candidates)
    close(values, expected[0])
    close(before, expected[1])


def draw(rows: int, k: int, seed: int) -> Tensor:
    """Candidates that are bytes, none of them twice in a row."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(256, generator=generator)[:k] for _ in range(rows)])


def test_extensions_equal_plain_forwards_as_rows_grow_enter_and_leave(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    """Chosen tokens are no candidates at every other step; rows leave, come back, and get fewer tokens."""
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    assert guide.slower is None
    prompts = {"a": "hello", "b": "a rather long prompt of forty-one letters", "c": "x", "d": "hello"}
    tokens: dict[str, list[int]] = {row: [] for row in prompts}
    present = ["ab", "abc", "bca", "cb", "cbd", "abd", "dcba", "a", "ab"]
    spreads = []
    for step, names in enumerate(present):
        rows = [(context(name, prompts[name], tokens[name]), prompts[name]) for name in names]
        candidates = draw(len(rows), 5, step)
        check(guide, plain, rows, candidates)
        spreads.append(float(guide.values([rows[0][0]], candidates[:1])[0].std()))
        for at, name in enumerate(names):
            tokens[name].append(int(candidates[at, 2]) if step % 2 else 120 + step)
        if step == 6:
            del tokens["a"][1:]
    assert min(spreads) > 0.01


def test_a_text_whose_reading_failed_is_not_gone_on_from(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out when the keys and values of another text stand in the row's slot already."""
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    first, second = list(range(100, 112)), list(range(140, 152))
    check(guide, plain, [(context("a", "hello", first), "hello")], draw(1, 5, 0))

    def short(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(extensions_file.Extensions, "_extend", short)
    with pytest.raises(MemoryError):
        guide.values([context("a", "hello", second)], draw(1, 5, 1))
    monkeypatch.undo()
    check(guide, plain, [(context("a", "hello", [*first, 112]), "hello")], draw(1, 5, 2))


def test_a_step_is_one_forward_for_all_rows(tiny_reward: str, tokenizer: Any) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    tokens: list[list[int]] = [[], [], []]
    prompts = ["one", "another one", "one"]
    forwards = []
    for step in range(4):
        before = guide.stats.forwards
        guide.values([context(at, prompts[at], tokens[at]) for at in range(3)], draw(3, 7, step))
        forwards.append(guide.stats.forwards - before)
        for row in tokens:
            row.append(65 + step)
    assert forwards[1:] == [1, 1, 1]
    assert guide.stats.texts_run == 4 * 3 * 8


def test_rows_of_one_prompt_share_its_run(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    prompt = "a prompt that is long enough to be worth a copy"
    rows = [(context(at, prompt, []), prompt) for at in range(6)]
    check(guide, plain, rows, draw(6, 3, 0))
    assert guide.stats.forwards == 2  # the prompt once, then every row's candidates


def test_a_row_may_stand_at_several_steps_at_once(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    text = [*b"scored text"]
    rows = [(context("row", "p", text[:length]), "p") for length in (0, 1, 2, 7, 3)]
    check(guide, plain, rows, draw(5, 4, 1))


def test_groups_of_rows_and_of_candidates_change_nothing(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions_file, "LEAVES", 3)
    monkeypatch.setattr(extensions_file, "TOKENS_PER_FORWARD", 8)
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    for step in range(3):
        tokens = [*b"abc"][:step]
        rows = [(context(at, f"p{at}", tokens), f"p{at}") for at in range(5)]
        check(guide, plain, rows, draw(5, 8, step))


def test_special_tokens_leave_the_text_as_it_is(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    values, before = guide.values([context(0, "p", [97, EOS])], torch.tensor([[EOS, 98, 269, 400]]))
    stem = [*plain.chat("p"), 97]
    assert float(values[0, 0]) == float(values[0, 3]) == float(before)
    expected, _ = naive(plain, [stem], torch.tensor([[98, 269]]))
    close(values[:, 1:3], expected)
    close(guide.strengths([context(0, "p", [97, EOS])], prompt=False), plain.of_tokens(stem).view(1, 1))


def test_what_outgrows_the_window_loses_its_beginning(models_folder: Path, tokenizer: Any) -> None:
    """12 positions, the BOS among them, and 5 tokens of a chat's frame: the prompt goes first."""
    folder = save_llama_reward(models_folder / "short_reward", seed=51, max_position_embeddings=12)
    plain = PlainSequenceModel(folder)
    guide = guide_of(RewardModel(folder), tokenizer)
    assert guide.slower is None
    text = [*b"0123456789"]
    candidates = draw(1, 3, 2)
    for length in range(10):
        whole = [*plain.chat("pp"), *text[:length]]

        def cut(tokens: list[int]) -> list[int]:
            return tokens if len(tokens) <= 12 else [BOS, *tokens[-11:]]

        values, before = guide.values([context(0, "pp", text[:length])], candidates)
        expected = [plain.of_tokens(cut([*whole, one])) for one in candidates[0].tolist()]
        close(values, torch.cat(expected)[None])
        close(before, plain.of_tokens(cut(whole)).view(1, 1))


def sliding(models_folder: Path) -> str:
    """Attends to the last 8 positions only."""
    from transformers import MistralConfig

    from tests.conftest import save_tokenizer

    folder = models_folder / "sliding_reward"
    config = MistralConfig(
        vocab_size=save_tokenizer(folder), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, sliding_window=8,
        initializer_range=0.5, pad_token_id=261,
    )  # fmt: skip
    return save_sequence_model(folder, config, seed=52, outputs=1)


def gpt2(models_folder: Path) -> str:
    """Learned positions, and no padding token."""
    from transformers import GPT2Config

    from tests.conftest import save_tokenizer

    folder = models_folder / "gpt2_reward"
    config = GPT2Config(
        vocab_size=save_tokenizer(folder), n_positions=128, n_embd=32, n_layer=2, n_head=4,
        initializer_range=0.5, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    return save_sequence_model(folder, config, seed=53, outputs=1)


@pytest.mark.parametrize("build", [sliding, gpt2])
def test_other_architectures_extend_too(
    models_folder: Path, tokenizer: Any, build: Callable[[Path], str]
) -> None:
    folder = build(models_folder)
    guide = guide_of(RewardModel(folder), tokenizer)
    assert guide.slower is None
    plain = PlainSequenceModel(folder)
    for step in range(3):
        tokens = [*b"some more"][: 4 * step]
        rows = [(context(at, "p" * (4 * at + 1), tokens), "p" * (4 * at + 1)) for at in range(3)]
        check(guide, plain, rows, draw(3, 4, step))


@pytest.mark.parametrize(
    ("template", "stem"),
    [
        ("{prompt}\n{text}", [BOS, *b"hi\nyou"]),
        ("<s>Q: {prompt} A: {text}", [BOS, *b"Q: hi A: you"]),
        ("{text}", [BOS, *b"you"]),
    ],
)
def test_a_template_that_ends_in_the_text_extends(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel, template: str, stem: list[int]
) -> None:
    guide = guide_of(RewardModel(tiny_reward, template=template), tokenizer)
    candidates = draw(1, 4, 3)
    values, before = guide.values([context(0, "hi", [*b"you"])], candidates)
    expected = naive(plain, [stem], candidates)
    close(values, expected[0])
    close(before, expected[1])
    assert guide.stats.cache_hits == 0 and guide.stats.forwards == 2


def test_a_model_that_cannot_extend_runs_whole_texts(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions_file, "mask_layout", lambda config: "it attends in chunks")
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    assert guide.slower == "it attends in chunks"
    rows = [(context(at, "p", [*b"abc"][:at]), "p") for at in range(3)]
    check(guide, plain, rows, draw(3, 4, 4))


def test_two_readings_of_one_model_do_not_mix(
    tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel
) -> None:
    """One set of weights as a chat and under a template, in turns, with the same rows."""
    operands = [RewardModel(tiny_reward), RewardModel(tiny_reward, template="{text}")]
    guides = load_guides(operands, tokenizer, CPU)
    for length in range(3):
        row = [context("row", "p", [*b"abc"][:length])]
        candidates = draw(1, 3, length)
        for operand, stem in zip(operands, (plain.chat("p"), [BOS]), strict=True):
            values, _ = guides[operand].values(row, candidates)
            close(values, naive(plain, [[*stem, *row[0].tokens]], candidates)[0])


def test_a_reset_forgets_the_rows(tiny_reward: str, tokenizer: Any, plain: PlainSequenceModel) -> None:
    guide = guide_of(RewardModel(tiny_reward), tokenizer)
    check(guide, plain, [(context("row", "p", [97]), "p")], draw(1, 3, 5))
    guide.reset()
    check(guide, plain, [(context("row", "other", [97]), "other")], draw(1, 3, 6))
