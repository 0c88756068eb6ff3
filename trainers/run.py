"""A training run: from a recipe to a folder which formulas name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainingArguments

from arith.operands.loading import context_window, end_ids, load_config
from arith.operands.locate import canonical
from arith.operands.manifest import Manifest
from arith.operands.prompts import turn_end
from arith.operands.quiet import quiet
from arith.operands.tokenizers import load_tokenizer
from trainers.data.load import Data, load_data
from trainers.loop.arguments import rows_a_step, training_arguments
from trainers.loop.assembly import checkpoint_parts, make_trainer
from trainers.loop.processes import by_the_first
from trainers.loop.reference import ReferenceScores
from trainers.loop.saving import save
from trainers.loop.trainer import ObjectiveTrainer
from trainers.output.checkpoints import step_of
from trainers.output.folder import OutputFolder
from trainers.output.metrics import MetricsFile, Report, read_metrics
from trainers.output.progress import Progress, Say
from trainers.output.report import CURVE_NAME, draw_curve, operand_line, table
from trainers.output.writing import writing
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, its reports, and how it is told and used; `first`: by this process."""

    first: bool
    folder: Path
    reports: list[Report]
    table: str
    operand: str


def train(recipe: Recipe | str | os.PathLike[str], say: Say = lambda _: None) -> Trained:
    """Train what the recipe says, or go on where a run of it was cut off.

    recipe: a recipe, or the path of one. say: hears how it goes, line by line.

    Raises `SpecError` for a recipe, data or folder that can't be used, `OperandError` for a model that can't
    be trained, and `TrainingError` where training can't start or go on.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe)
    arguments = training_arguments(recipe)
    if arguments.process_index:
        say = _nobody
    with _folder(recipe, arguments) as (folder, checkpoint):
        for note in () if folder is None else folder.notes:
            say(note)
        tokenizer = load_tokenizer(recipe.operand)
        data = recipe_data(recipe, tokenizer, arguments.seed)
        say(str(data.report))
        with quiet():
            trainer = make_trainer(recipe, arguments, data, tokenizer, say)
            with writing(recipe.output):
                by_the_first(arguments.process_index, lambda: _begin(folder, data))
                _follow(trainer, recipe, arguments, checkpoint, say)
                trainer.train_from(checkpoint)
                save(trainer, recipe, arguments, tokenizer)
        with writing(recipe.output):
            reports = read_metrics(recipe.output)
            if folder is not None:
                draw_curve(reports, recipe.output / CURVE_NAME)
                _manifest(recipe).write(recipe.output)
                folder.finish()
        rewards = recipe.objective.rewards_texts
        operand = operand_line(recipe.output, adapter=recipe.adapter is not None, reward=rewards)
        held = 0 if data.validation is None else len(data.validation)
        return Trained(folder is not None, recipe.output, reports, table(reports, held), operand)


def _follow(
    trainer: ObjectiveTrainer,
    recipe: Recipe,
    arguments: TrainingArguments,
    checkpoint: Path | None,
    say: Say,
) -> None:
    """What goes along with the training: the reference's scores, the reports, and what is said."""
    if recipe.objective.reference and recipe.adapter is None:
        trainer.add_callback(ReferenceScores(trainer, recipe.output))
    step = 0 if checkpoint is None else step_of(checkpoint)
    if checkpoint is not None:
        arguments.eval_on_start = False
        say(f"going on behind step {step}")
    if not arguments.process_index:
        trainer.add_callback(MetricsFile(recipe.output, step))
    trainer.add_callback(Progress(say))


def _nobody(_: str) -> None:
    """Hears nothing."""


@contextmanager
def _folder(
    recipe: Recipe, arguments: TrainingArguments
) -> Iterator[tuple[OutputFolder | None, Path | None]]:
    """The folder, of the first process only, and the checkpoint to go on from."""
    opened: list[OutputFolder] = []

    def open_folder() -> Path | None:
        opened.append(OutputFolder(recipe, rows_a_step(arguments), checkpoint_parts(arguments)))
        return opened[0].checkpoint

    try:
        checkpoint = by_the_first(arguments.process_index, open_folder)
        yield (opened[0] if opened else None), checkpoint
    finally:
        for folder in opened:
            folder.close()


def recipe_data(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", seed: int) -> Data:
    """The recipe's data, encoded as its operand and its objective read it; `seed` is that of the split."""
    objective, operand = recipe.objective, recipe.operand
    # A reward model reads answers that go on, as a guide shows them to it: no token ends them.
    end_id = None if objective.rewards_texts else turn_end(operand, tokenizer, end_ids(operand))
    return load_data(
        recipe.data,
        recipe.folder,
        operand,
        tokenizer,
        end_id=end_id,
        window=context_window(load_config(operand.weights)),
        pairs=objective.pairs,
        seed=seed,
    )


def _begin(folder: OutputFolder | None, data: Data) -> None:
    assert folder is not None
    folder.begin(data)


def _manifest(recipe: Recipe) -> Manifest:
    operand = recipe.operand
    whole = "reward_model" if recipe.objective.rewards_texts else "model"
    adapter = recipe.adapter is not None and not recipe.objective.rewards_texts
    return Manifest(
        kind="adapter" if adapter else whole,
        model=canonical(operand.model),
        revision=operand.revision,
        system=operand.system,
        template=operand.template,
        objective=recipe.objective.model_dump(mode="json"),
    )
