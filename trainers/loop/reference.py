"""The reference's log-probabilities of a full fine-tune: computed once, before the first step, and kept."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from arith.whole_file import PARTIAL
from trainers.loop.trainer import ObjectiveTrainer
from trainers.output.folder import REFERENCE_NAME

_KEY = "log_probs"


class ReferenceScores(TrainerCallback):
    """Gives the trainer the log-probabilities of all answers under the model as it is when training begins.

    By then the model is wrapped as it will be trained: scoring it earlier would keep it from being wrapped. A
    run that goes on finds them in its folder, whose data is the same: its model isn't the reference any more.
    """

    def __init__(self, trainer: ObjectiveTrainer, folder: Path):
        self._trainer = trainer
        self._path = folder / REFERENCE_NAME

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self._trainer
        if not self._path.is_file():
            sets = (trainer.train_dataset, trainer.eval_dataset)
            found = torch.cat([trainer.answer_scores(one) for one in sets if one is not None])
            if trainer.is_world_process_zero():
                part = self._path.with_name(REFERENCE_NAME + PARTIAL)
                save_file({_KEY: found.contiguous()}, part)
                part.replace(self._path)
            trainer.accelerator.wait_for_everyone()
        trainer.reference = load_file(self._path)[_KEY]
