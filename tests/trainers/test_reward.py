"""The reward that training sees is the one that guides and scorers see, whatever the template."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from arith.operands import LLM, RewardModel
from arith.operands.prompts import encode_continuation
from arith.operands.tokenizers import load_tokenizer
from arith.study.results import read_results
from arith.study.scoring.sequence_model import SequenceModelScorer
from tests.runtime.guide_reference import context, guide_of
from tests.study.written_rows import sweep_row, write_rows
from tests.trainers.conftest import write_pairs
from trainers import Recipe, train

Write = Callable[..., Path]
SIDES = ("chosen", "rejected")
# No token of these is merged over the end of a prompt, so that a whole text has the tokens of its parts.
PAIRS = [
    {"prompt": f"\n\nHuman: {word}?\n\nAssistant:", "chosen": f" Yes, {word}.", "rejected": f" {word} No!"}
    for word in ("hello", "why", "a longer question")
]


@pytest.mark.parametrize("template", ["raw", None, "Q: {prompt} A:"])
def test_a_trained_reward_is_that_of_scorers_and_of_guides(
    write_recipe: Write, tmp_path: Path, tiny_llama: str, template: str | None
) -> None:
    write_pairs(tmp_path / "held.jsonl", PAIRS)
    recipe = write_recipe(
        objective={"name": "reward"}, operand={"template": template}, data={"validation": "held.jsonl"}
    )
    last = train(Recipe.load(recipe)).reports[-1]
    expected = [last[f"eval_{side}_reward"] for side in SIDES]
    assert abs(expected[0] - expected[1]) > 0.1
    reward = RewardModel(str(tmp_path / "out"))
    assert scored(reward, tmp_path) == pytest.approx(expected, abs=1e-3)
    assert guided(reward, load_tokenizer(LLM(tiny_llama))) == pytest.approx(expected, abs=1e-3)


def scored(reward: RewardModel, folder: Path) -> list[float]:
    """The mean reward of each side, as `arith score-sweep` has it."""
    found = []
    for side in SIDES:
        rows = [sweep_row(at, prompt=pair["prompt"], text=pair[side]) for at, pair in enumerate(PAIRS)]
        read = read_results(write_rows(folder / side, rows))
        scores = [scored.score for _, scored in SequenceModelScorer(reward, "cpu").score(read)]
        found.append(mean(score for score in scores if score is not None))
    return found


def guided(reward: RewardModel, tokenizer: Any) -> list[float]:
    """The mean reward of each side, as a guide has it of the text so far."""
    guide = guide_of(reward, tokenizer)
    found = []
    for side in SIDES:
        texts = [encode_continuation(tokenizer, pair[side]) for pair in PAIRS]
        rows = [
            context(at, pair["prompt"], text)
            for at, (pair, text) in enumerate(zip(PAIRS, texts, strict=True))
        ]
        _, before = guide.values(rows, torch.tensor([[97, 98]] * len(rows)))
        found.append(before.mean().item())
    return found
