"""What was trained, written to the folder that formulas name."""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import TrainingArguments

from arith.operands.llm import Weights
from trainers.loop.arguments import precision
from trainers.loop.assembly import sharded
from trainers.loop.errors import TrainingError
from trainers.loop.trainer import ObjectiveTrainer
from trainers.models.trainable import load_weights
from trainers.output.checkpoints import has_weights
from trainers.output.folder import REFERENCE_NAME
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save(
    trainer: ObjectiveTrainer,
    recipe: Recipe,
    arguments: TrainingArguments,
    tokenizer: "PreTrainedTokenizerBase",
) -> None:
    """Writes the adapter, or the whole model with its tokenizer.

    A model is written in the operand's dtype; in float32 where its weights are divided over processes. A
    reward model is whole, its adapter merged. Raises `TrainingError` for weights that are no numbers, and
    where nothing was written; the last checkpoint stays then.
    """
    model: Any = trainer.model
    if recipe.adapter is None and not sharded(arguments):
        model.to(precision(recipe, arguments.device).dtype)
    trainer.check_weights()
    if recipe.objective.rewards_texts and recipe.adapter is not None:
        trainer.model = model = _merged(model, recipe)
        trainer.processing_class = tokenizer
    model.config.use_cache = True
    if trainer.is_fsdp_enabled:  # each process would keep its own part
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(recipe.output))
    if arguments.process_index:
        return
    if not has_weights(recipe.output):
        raise TrainingError(
            f"{recipe.output}: the weights couldn't be put together, and the last checkpoint is kept",
            "with DeepSpeed's third stage set stage3_gather_16bit_weights_on_model_save, and go on",
        )
    # The recipe and the manifest say in words what the libraries' own files would.
    for name in ("training_args.bin", "README.md", REFERENCE_NAME):
        (recipe.output / name).unlink(missing_ok=True)


def _merged(model: Any, recipe: Recipe) -> Any:
    """The reward model with its adapter merged; into weights of full precision, where it was trained on
    quantised ones, since rounding them anew would change what was learnt."""
    operand = recipe.operand
    if operand.quantization is None:
        return model.merge_and_unload()
    weights = Weights(operand.weights.model, operand.revision, operand.weights.dtype)
    base = load_weights(weights, torch.device("cpu"), rewards=True, attention=recipe.attention)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        adapted: Any = PeftModel.from_pretrained(base, folder)
        return adapted.merge_and_unload()
