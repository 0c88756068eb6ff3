"""A recipe, its data and a model put together into a trainer."""

import os
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, TrainingArguments

from arith.errors import OperandError
from trainers.data.load import Data
from trainers.loop.arguments import precision
from trainers.loop.errors import starting
from trainers.loop.trainer import ObjectiveTrainer
from trainers.models.trainable import load_trainable
from trainers.output.progress import Say
from trainers.recipe import Recipe
from trainers.scoring.batches import SIDES
from trainers.scoring.scorer import Scorer, make_scorer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIAL_ROWS = 2


def make_trainer(
    recipe: Recipe,
    arguments: TrainingArguments,
    data: Data,
    tokenizer: "PreTrainedTokenizerBase",
    say: Say,
) -> ObjectiveTrainer:
    """The trainer with its model loaded and its rows numbered; `say` hears what will be slower, and why.

    Raises `OperandError` for a model that can't be loaded or trained, and `TrainingError` where the training
    can't be set up as the recipe says.
    """
    rewards, divided = recipe.objective.rewards_texts, sharded(arguments)
    if rewards and divided and recipe.adapter is not None:
        raise OperandError(
            "a reward model is saved with its adapter merged, which weights divided over processes can't be",
            "train it without `adapter`, or without DeepSpeed and FSDP",
        )
    with starting():
        model = load_trainable(
            recipe.operand,
            recipe.adapter,
            precision(recipe, arguments.device),
            None if divided else arguments.device,
            rewards=rewards,
            attention=recipe.attention,
            seed=arguments.seed,
        )
    base: Any = model if recipe.adapter is None else model.get_base_model()
    train = _numbered(data.train, 0)
    validation = None if data.validation is None else _numbered(data.validation, len(train))
    if divided:  # before it is wrapped the model can't run, so nothing can be tried out
        scorer = Scorer(base, rewards=rewards, shared=False, chunked=False)
    else:
        trial = [train[number] for number in range(min(len(train), TRIAL_ROWS))]
        longest = max(_longest(rows) for rows in (train, validation) if rows is not None)
        computing = precision(recipe, arguments.device).dtype
        scorer, slower = make_scorer(base, trial, longest, computing, rewards=rewards)
        if slower is not None:
            say(f"note: {slower}")
    with starting():
        trainer = ObjectiveTrainer(
            objective=recipe.objective,
            scorer=scorer,
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer if recipe.adapter is None else None,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _numbered(rows: Any, first: int) -> Any:
    return rows.add_column("index", list(range(first, first + len(rows))))


def _longest(rows: Any) -> int:
    """The most tokens of a prompt with one of its answers."""
    sides = [name for name in SIDES if name in rows.column_names]
    answers = zip(*(rows[name][:] for name in sides), strict=True)
    pairs = zip(rows["prompt_ids"][:], answers, strict=True)
    return max(len(prompt) + max(map(len, sides)) for prompt, sides in pairs)


def sharded(arguments: TrainingArguments) -> bool:
    """Whether the weights are divided over processes: by DeepSpeed, or by FSDP."""
    launched = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
    return bool(arguments.deepspeed or arguments.fsdp or any(os.environ.get(n) == "true" for n in launched))


def checkpoint_parts(arguments: TrainingArguments) -> tuple[str, ...]:
    """The files that a checkpoint of these processes has beside its weights; none of divided weights, which
    DeepSpeed and FSDP save each in its own way."""
    if sharded(arguments):
        return ()
    ranks = range(arguments.world_size)
    states = [f"rng_state_{rank}.pth" for rank in ranks] if len(ranks) > 1 else ["rng_state.pth"]
    return ("optimizer.pt", "scheduler.pt", *states)
