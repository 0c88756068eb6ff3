"""A training run of this package, made once and run many times."""

from pathlib import Path
from typing import Any

from arith.operands.tokenizers import load_tokenizer
from trainers.loop.arguments import training_arguments
from trainers.loop.assembly import make_trainer
from trainers.recipe import Recipe
from trainers.run import recipe_data


class ByArith:
    """The trainer of a recipe over the first `rows` rows of its data."""

    def __init__(self, recipe: Path, rows: int):
        loaded = Recipe.load(recipe)
        tokenizer = load_tokenizer(loaded.operand)
        arguments = training_arguments(loaded)
        data = recipe_data(loaded, tokenizer, arguments.seed)
        self._trainer: Any = make_trainer(loaded, arguments, data, tokenizer, print)
        whole: Any = self._trainer.train_dataset
        self._trainer.train_dataset = whole.select(range(rows))

    def loss(self, rows: int) -> float:
        """Of the first rows, with the weights as they are."""
        trainer = self._trainer
        batch = trainer.data_collator([trainer.train_dataset[number] for number in range(rows)])
        trainer.model.eval()
        loss: float = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).item()
        return loss

    def run(self) -> None:
        """Once through the rows."""
        self._trainer.train()
