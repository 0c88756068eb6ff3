"""The reference's log-probabilities of a full fine-tune: computed once, before the first step, and kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainers.loop.trainer import REFERENCE, ObjectiveTrainer

REFERENCE_NAME = "reference.safetensors"


def add_reference(trainer: ObjectiveTrainer, folder: Path) -> None:
    """Adds to the trainer's datasets the log-probabilities of their answers under the model as it is.

    A run that goes on finds them in `folder`, whose data is the same: its model isn't the reference any
    more.
    """
    path = folder / REFERENCE_NAME
    sets = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    given = {name: dataset for name, dataset in sets.items() if dataset is not None}
    if not path.is_file():
        found = {name: _answer_scores(trainer, dataset) for name, dataset in given.items()}
        if trainer.is_world_process_zero():
            part = path.with_suffix(".part")
            save_file(found, part)
            part.replace(path)
        trainer.accelerator.wait_for_everyone()
    found = load_file(path)
    trainer.train_dataset = _with_columns(given["train"], found["train"])
    if "validation" in given:
        trainer.eval_dataset = _with_columns(given["validation"], found["validation"])


def _answer_scores(trainer: ObjectiveTrainer, dataset: Any) -> Tensor:
    """`[rows, sides]`, in the dataset's order."""
    # The figures that come along need some reference; the scores don't.
    placeholder = torch.zeros(len(dataset), len(REFERENCE))
    return trainer.answer_scores(_with_columns(dataset, placeholder)).contiguous()


def _with_columns(dataset: Any, values: Tensor) -> Any:
    columns: Mapping[str, list[float]] = {
        name: column.tolist() for name, column in zip(REFERENCE, values.unbind(dim=1), strict=True)
    }
    for name, column in columns.items():
        dataset = dataset.add_column(name, column)
    return dataset
