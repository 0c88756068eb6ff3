"""The same training run by TRL."""

from pathlib import Path
from typing import Any

import torch

from arith.operands.tokenizers import load_tokenizer
from trainers.loop.arguments import precision, training_arguments
from trainers.models.trainable import load_trainable
from trainers.recipe import Recipe
from trainers.run import recipe_data


class ByTrl:
    """TRL's trainer for the recipe's objective over the first `rows` rows of its data."""

    def __init__(self, recipe: Path, rows: int):
        from datasets import Dataset

        loaded = Recipe.load(recipe)
        arguments = training_arguments(loaded)
        tokenizer: Any = load_tokenizer(loaded.operand)
        data = recipe_data(loaded, tokenizer, arguments.seed).train.select(range(rows))
        # TRL puts the token behind each answer that ends it here already.
        texts = [
            {
                "prompt": tokenizer.decode(row["prompt_ids"]),
                "chosen": tokenizer.decode(row["chosen_ids"]).removesuffix(tokenizer.eos_token),
                "rejected": tokenizer.decode(row["rejected_ids"]).removesuffix(tokenizer.eos_token),
            }
            for row in data
        ]
        model = load_trainable(
            loaded.operand,
            loaded.adapter,
            precision(loaded, arguments.device),
            arguments.device,
            rewards=False,
            attention=None,
            seed=arguments.seed,
        )
        self._trainer = _trainer(loaded, arguments, model, Dataset.from_list(texts), tokenizer)

    def loss(self, rows: int) -> float:
        """Of the first rows, with the weights as they are."""
        trainer = self._trainer
        batch = trainer.data_collator([trainer.train_dataset[number] for number in range(rows)])
        trainer.model.eval()
        with torch.no_grad():
            loss: float = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).item()
        return loss

    def run(self) -> None:
        """Once through the rows."""
        self._trainer.train()


def _trainer(recipe: Recipe, arguments: Any, model: Any, texts: Any, tokenizer: Any) -> Any:
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    shared: dict[str, Any] = {
        "output_dir": arguments.output_dir,
        "per_device_train_batch_size": arguments.per_device_train_batch_size,
        "max_steps": arguments.max_steps,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": arguments.use_cpu,
        "bf16": arguments.bf16,
        "beta": recipe.dump()["objective"]["beta"],
        "max_length": recipe.data.max_length,
    }
    if recipe.objective.name == "dpo":
        settings: Any = DPOConfig(**shared, gradient_checkpointing=False)
        kind: Any = DPOTrainer
    else:
        settings = CPOConfig(**shared, loss_type="sigmoid", cpo_alpha=0.0, gradient_checkpointing=False)
        kind = CPOTrainer
    return kind(model=model, args=settings, train_dataset=texts, processing_class=tokenizer)
