"""The layout that a trainer chooses for its recipe: prompts that are shared, and texts that run alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.conftest import made, write_pairs
from tests.trainers.test_scorer import load, separately
from trainers import Recipe
from trainers.models.trainable import load_trainable

Write = Callable[..., Path]
SHORT = [{"prompt": "ab", "chosen": f"c{letter}", "rejected": f"d{letter}"} for letter in "efgh"]
LONG = [
    {
        "prompt": "a prompt of its own",
        "chosen": f"{letter} long answer",
        "rejected": f"{letter} other, longer",
    }
    for letter in "xyz"
]


def coarse(model: Any) -> Any:
    """The model such that texts side by side score otherwise than alone by what bfloat16 rounds away."""
    beside = False

    def look(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal beside
        beside = "position_ids" in kwargs

    def scale(_: Any, args: Any) -> Any:
        return (args[0] * (1 + 2**-8 * beside),)

    model.register_forward_pre_hook(look, with_kwargs=True)
    model.get_output_embeddings().register_forward_pre_hook(scale)
    return model


@pytest.mark.parametrize(("dtype", "shared"), [("bfloat16", True), ("float32", False)])
def test_whole_weights_that_compute_in_a_half_share_prompts(
    write_recipe: Write, monkeypatch: pytest.MonkeyPatch, dtype: str, shared: bool
) -> None:
    """How far scores may differ follows from what is computed in: the weights are kept in float32 here."""
    monkeypatch.setattr(
        "trainers.loop.assembly.load_trainable", lambda *args, **keys: coarse(load_trainable(*args, **keys))
    )
    said: list[str] = []
    trainer = made(Recipe.load(write_recipe(operand={"dtype": dtype}, adapter=None)), said.append)
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    assert [line for line in said if "nats a token" in line] == ([] if shared else said)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert len(batch["input_ids"]) == (1 if shared else 2)


def test_validation_beyond_a_sliding_window_scores_as_separate_texts(
    write_recipe: Write, tmp_path: Path, tiny_mistral_sliding: str
) -> None:
    """The training rows alone would fit into the 16 tokens which the layers look back."""
    write_pairs(tmp_path / "short.jsonl", SHORT)
    write_pairs(tmp_path / "long.jsonl", LONG)
    recipe = Recipe.load(
        write_recipe(
            operand={"model": tiny_mistral_sliding, "template": "raw"},
            data={"train": "short.jsonl", "validation": "long.jsonl"},
        )
    )
    trainer = made(recipe)
    lengths = [max(map(len, trainer.train_dataset[name][:])) for name in ("prompt_ids", "chosen_ids")]
    assert sum(lengths) < 16
    found = trainer.evaluate()
    rows = [trainer.eval_dataset[number] for number in range(len(LONG))]
    with torch.no_grad():
        chosen, rejected = separately(load(tiny_mistral_sliding), rows).mean(dim=0).tolist()
    assert found["eval_chosen_log_prob"] == pytest.approx(chosen, abs=1e-3)
    assert found["eval_rejected_log_prob"] == pytest.approx(rejected, abs=1e-3)
