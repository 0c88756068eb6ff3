"""The losses of TRL on the same weights and texts: its contrastive preference trainer without the part that
imitates (which is the loss of an ARM), and its DPO trainer."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from arith.operands.prompts import render
from arith.operands.tokenizers import load_tokenizer
from tests.trainers.conftest import PAIRS, made
from trainers import Recipe

pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")
Write = Callable[..., Path]
ALL = {"validation": None}
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": len(PAIRS), "max_length": 256, "bf16": False, "use_cpu": True,
    "report_to": "none", "gradient_checkpointing": False,
}  # fmt: skip


def change_adapter(model: Any) -> None:
    """As training would: the second matrices begin as zeros."""
    for name, weight in model.named_parameters():
        if "lora_B.default" in name:
            torch.manual_seed(len(name))
            torch.nn.init.normal_(weight, std=0.05)


def our_loss(trainer: Any) -> tuple[float, torch.Tensor]:
    rows = [trainer.train_dataset[number] for number in range(len(trainer.train_dataset))]
    trainer.model.eval()  # without dropout
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    return loss.item(), gradient(trainer.model, loss)


def gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])


def texts(recipe: Recipe) -> Dataset:
    """The rendered prompts, but for the BOS which TRL adds, and the bare answers, as plain text."""
    tokenizer: Any = load_tokenizer(recipe.operand)
    prompts = [tokenizer.decode(render(recipe.operand, tokenizer, pair["prompt"])[1:]) for pair in PAIRS]
    return Dataset.from_list([{**pair, "prompt": text} for pair, text in zip(PAIRS, prompts, strict=True)])


def their_loss(trainer: Any) -> tuple[float, torch.Tensor]:
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    return loss.item(), gradient(trainer.model, loss)


def compare(recipe: Recipe, kind: Any, args: Any) -> None:
    """The losses and gradients of a trainer of TRL and of ours, from the same weights."""
    ours = made(recipe)
    theirs = kind(
        model=copy.deepcopy(ours.model),
        args=args,
        train_dataset=texts(recipe),
        processing_class=load_tokenizer(recipe.operand),
    )
    change_adapter(ours.model)
    change_adapter(theirs.model)
    loss, derivative = our_loss(ours)
    expected, expected_derivative = their_loss(theirs)
    assert loss == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(derivative, expected_derivative, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("adapter", [True, False])
def test_the_loss_of_an_arm_is_that_of_trl(write_recipe: Write, tmp_path: Path, adapter: bool) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    without = {} if adapter else {"adapter": None}
    recipe = Recipe.load(write_recipe(objective={"name": "arm", "beta": 0.1}, data=ALL, **without))
    loss: dict[str, Any] = {"loss_type": "sigmoid", "cpo_alpha": 0.0, "beta": 0.1}
    compare(recipe, CPOTrainer, CPOConfig(output_dir=str(tmp_path / "trl"), **loss, **SETTINGS))


def test_the_loss_of_dpo_is_that_of_trl(write_recipe: Write, tmp_path: Path) -> None:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    recipe = Recipe.load(write_recipe(objective={"name": "dpo", "beta": 0.1}, data=ALL))
    compare(recipe, DPOTrainer, DPOConfig(output_dir=str(tmp_path / "trl"), beta=0.1, **SETTINGS))
