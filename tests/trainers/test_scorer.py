"""Scores of answers that share their prompt, against separate forwards of whole texts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from arith.errors import OperandError
from arith.operands.quiet import quiet
from tests.conftest import save_model, save_tokenizer
from trainers.scoring.batches import PAD, collate, visible
from trainers.scoring.sampler import LengthBuckets
from trainers.scoring.scorer import Scorer, make_scorer

ROWS: list[dict[str, Any]] = [
    {"prompt_ids": [256, 72, 105], "chosen_ids": [33, 40, 257], "rejected_ids": [41, 257], "index": 0},
    {"prompt_ids": [256, 65], "chosen_ids": [66], "rejected_ids": [67, 68, 69, 70, 257], "index": 1},
    {"prompt_ids": [256, 80, 81, 82, 83], "chosen_ids": [84, 85], "rejected_ids": [84, 86], "index": 2},
]
for row in ROWS:
    row["length"] = sum(len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))


def load(folder: str, **settings: Any) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **settings)
    return model.eval()


def separately(model: Any, rows: list[dict[str, Any]]) -> Tensor:
    """`[rows, 2]`: each text run by itself, and its answer's log-probabilities added up."""
    totals = []
    for row in rows:
        for side in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([row["prompt_ids"] + row[side]])
            log_probs = model(input_ids=ids).logits[0].log_softmax(dim=-1)
            behind = range(len(row["prompt_ids"]) - 1, ids.shape[1] - 1)
            totals.append(sum(log_probs[at, ids[0, at + 1]] for at in behind))
    return torch.stack(totals).view(len(rows), 2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding"])
def test_answers_beside_each_other_score_as_separate_texts(
    name: str, attention: str, request: pytest.FixtureRequest
) -> None:
    model = load(request.getfixturevalue(name), attn_implementation=attention)
    scorer, slower = make_scorer(model, ROWS, 11, torch.float32, rewards=False)
    assert (scorer.shared, scorer.chunked, slower) == (True, True, None)
    found = scorer(model, scorer.collate(ROWS))
    assert torch.allclose(found, separately(model, ROWS), atol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_gradients_of_an_adapter_are_those_of_separate_texts(
    tiny_llama: str, shared: bool, chunked: bool
) -> None:
    torch.manual_seed(0)
    with quiet():
        model = get_peft_model(load(tiny_llama), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    scorer = Scorer(model.get_base_model(), rewards=False, shared=shared, chunked=chunked)
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 1.0]])
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad((scorer(model, scorer.collate(ROWS)) * weights).sum(), trained)
    expected = torch.autograd.grad((separately(model, ROWS) * weights).sum(), trained)
    for mine, theirs in zip(found, expected, strict=True):
        assert (
            mine - theirs
        ).norm() <= 1e-4 * theirs.norm()  # a small entry may be a difference of large ones


def test_a_model_without_attention_runs_each_answer_by_itself(tiny_mamba: str) -> None:
    model = load(tiny_mamba)
    scorer, slower = make_scorer(model, ROWS, 11, torch.float32, rewards=False)
    assert not scorer.shared and slower is not None
    assert torch.allclose(scorer(model, scorer.collate(ROWS)), separately(model, ROWS), atol=1e-5)


def test_texts_beyond_a_sliding_window_run_by_themselves(tiny_mistral_sliding: str) -> None:
    model = load(tiny_mistral_sliding)
    scorer, slower = make_scorer(model, ROWS, 30, torch.float32, rewards=False)
    assert not scorer.shared and scorer.chunked
    assert slower is not None and "16 tokens back, and texts are up to 30 long" in slower


def test_logits_that_the_model_changes_behind_its_output_layer_are_respected(tmp_path: Path) -> None:
    from transformers import Gemma2Config

    size = save_tokenizer(tmp_path)
    config = Gemma2Config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0, initializer_range=0.5,
        bos_token_id=256, eos_token_id=257, pad_token_id=261,
    )  # fmt: skip
    save_model(tmp_path, config, seed=3)
    model = load(str(tmp_path))
    scorer, slower = make_scorer(model, ROWS, 11, torch.float32, rewards=False)
    assert not scorer.chunked and slower is not None
    assert torch.allclose(scorer(model, scorer.collate(ROWS)), separately(model, ROWS), atol=1e-5)


def test_a_reward_is_the_output_at_the_last_token_even_if_that_is_padding(tiny_reward: str) -> None:
    from transformers import AutoModelForSequenceClassification

    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_reward, dtype=torch.float32).eval()
    rows = [{**row, "chosen_ids": [*row["chosen_ids"], model.config.pad_token_id]} for row in ROWS]
    scorer, _ = make_scorer(model, rows, 20, torch.float32, rewards=True)
    found = scorer(model, scorer.collate(rows))
    for row, pair in zip(rows, found, strict=True):
        for side, reward in zip(("chosen_ids", "rejected_ids"), pair, strict=True):
            hidden = model.model(input_ids=torch.tensor([row["prompt_ids"] + row[side]])).last_hidden_state
            assert torch.allclose(reward, model.score(hidden[0, -1])[0], atol=1e-5)


def test_a_model_without_an_output_layer_is_refused(tiny_llama: str) -> None:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(tiny_llama)
    with pytest.raises(OperandError, match="no output layer"):
        make_scorer(model, ROWS, 11, torch.float32, rewards=False)


def test_a_token_sees_its_prompt_and_its_own_answer_up_to_itself() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 2, PAD]])
    seen = {
        (query, key) for query in range(6) for key in range(6) if visible(segments)[0, 0, query, key].item()
    }
    expected = {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 3)}
    expected |= {(4, 0), (4, 1), (4, 4), (5, 5)}
    assert seen - {(5, 0), (5, 1)} == expected  # what padding sees of the prompt changes nothing


def test_positions_of_each_answer_go_on_from_the_prompt() -> None:
    batch = collate(ROWS[:1], shared=True)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 3, 4]]
    assert batch["sources"].tolist() == [2, 3, 4, 2, 6]
    assert batch["targets"].tolist() == [33, 40, 257, 41, 257]
    assert batch["ends"].tolist() == [5, 7]


def test_each_row_is_seen_an_epoch_and_batches_hold_similar_lengths() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(1, 1000, (403,)).tolist()
    sampler = LengthBuckets(lengths, 8, seed=1)
    order = list(sampler)
    assert len(order) == len(sampler) == 408
    assert set(order) == set(range(403))
    batches = [[lengths[row] for row in order[start : start + 8]] for start in range(0, 408, 8)]
    padding = sum(max(batch) * 8 - sum(batch) for batch in batches)
    assert padding < 0.1 * sum(lengths)
    assert [max(batch) for batch in batches] != sorted(max(batch) for batch in batches)


def test_few_rows_fill_a_batch_by_coming_again() -> None:
    order = list(LengthBuckets([3, 1], 5, seed=0))
    assert len(order) == 5 and {order.count(0), order.count(1)} == {2, 3}


def test_the_order_follows_from_the_seed_and_the_epoch_alone() -> None:
    first, again, other = (LengthBuckets(range(1, 50), 4, seed) for seed in (1, 1, 2))
    for epoch in (0, 3):
        first.set_epoch(epoch)
        again.set_epoch(epoch)
        assert list(first) == list(again) != list(other)
    again.set_epoch(0)
    assert list(first) != list(again)
