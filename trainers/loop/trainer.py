"""transformers' trainer with the objectives of this package: one loop for all of them."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from arith.errors import ArithError
from arith.runtime.backbones.memory import out_of_memory
from trainers.loop.arguments import rows_a_step
from trainers.loop.errors import TrainingError, cannot_start, no_memory
from trainers.loop.figures import means, row_figures
from trainers.objectives.objective import Objective, Scores
from trainers.scoring.batches import PAD, Batch
from trainers.scoring.sampler import LengthBuckets
from trainers.scoring.scorer import Scorer

_SHOWN_PLACES = 8
_CALMER = (
    "a lower learning_rate, a smaller max_grad_norm or dtype float32 may help; the last checkpoint is whole"
)


class _Arrived(Exception):
    """A run was gone on with behind its last step."""


class ObjectiveTrainer(Trainer):
    """Trains by an objective.

    The loss of an optimiser step is the weighted mean over all its rows, however many processes and slices
    these came in. The datasets have the columns of `trainers.data`, and `index`, which counts on from the
    training rows to those of the validation.

    reference: `[rows, sides]`, by that index, the log-probabilities under a reference that isn't the model
        without its adapter.
    """

    def __init__(self, *, objective: Objective, scorer: Scorer, **settings: Any):
        super().__init__(data_collator=scorer.collate, compute_metrics=self._metrics, **settings)
        self.loss_is_scaled_for_ga = True
        self._objective = objective
        self._scorer = scorer
        self.reference: Tensor | None = None
        self._sampler: LengthBuckets | None = None
        self._noted: list[tuple[dict[str, Tensor], Tensor]] = []
        self._tokens = 0
        self._step_rows: list[int] = []
        self._began = self._seconds = 0.0
        self._started = False
        self.add_callback(_Steps(self))

    def train_from(self, checkpoint: Path | None) -> None:
        """Train, behind a checkpoint if there is one; one of the last step has nothing left to do.

        Raises `TrainingError` where a library refuses a setting, memory runs out, or a number is none.
        """
        try:
            # Not even then may transformers take a step, as it would; but it loads and wraps the model as
            # needed.
            with suppress(_Arrived):
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except ArithError:
            raise
        except Exception as error:
            if not self._started:
                raise cannot_start(error) from error
            if out_of_memory(error):
                raise no_memory(f"behind step {self.state.global_step}") from error
            raise

    def note_start(self) -> None:
        """Notes that optimiser, schedule, checkpoint and whatever else the settings name are there."""
        self._started = True

    # ---- the order of rows

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        args: TrainingArguments = self.args
        rows = rows_a_step(args)
        seed = args.seed if args.data_seed is None else args.data_seed
        lengths = cast(Any, self.train_dataset)["length"][:]
        self._sampler = LengthBuckets(lengths, rows, seed)
        return self._sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The longest first: if memory runs out, it does so at once."""
        lengths = torch.tensor(eval_dataset["length"][:])
        return lengths.argsort(descending=True, stable=True).tolist()

    def begin_epoch(self, epoch: int) -> None:
        """Tells the sampler, which is wrapped in several layers when a run is gone on with."""
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def begin_step(self) -> None:
        """Ends a run whose last step was taken before it was cut off."""
        if self.state.global_step >= self.state.max_steps:
            raise _Arrived

    def check_step(self) -> None:
        """Raises `TrainingError` where a gradient is no number: a step by it would spoil the weights."""
        gradients = [one.grad for one in cast(Any, self.model).parameters() if one.grad is not None]
        # A scaler of gradients leaves such steps out by itself.
        if not gradients or self.accelerator.scaler is not None:
            return
        if not get_total_norm(gradients).isfinite():
            raise self._no_number("a gradient", self._step_rows)

    def check_weights(self) -> None:
        """Raises `TrainingError` where a weight is no number, which an optimiser can make of gradients that
        are numbers. Weights that are divided over processes are let be."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            return
        for name, weight in cast(Any, self.model).named_parameters():
            if weight.requires_grad and not weight.isfinite().all():
                raise TrainingError(
                    f"the weights {name} are no numbers behind step {self.state.global_step}", _CALMER
                )

    def _save_checkpoint(self, *args: Any, **settings: Any) -> None:
        """Not of weights that are no numbers: the checkpoint before, which would be removed, is better."""
        self.check_weights()
        super()._save_checkpoint(*args, **settings)

    def end_step(self) -> None:
        """Counts the time of a step."""
        self._seconds += time.perf_counter() - self._began

    # ---- scores and losses

    def scores(self, forward: Any, batch: Batch) -> Scores:
        """The scores of the batch's answers. `forward`: the model as it is wrapped for training."""
        values = self._scorer(forward, batch)
        reference: Tensor | None = None
        if self._objective.reference and self.reference is None:
            reference = self._without_adapter(forward, batch)
        elif self.reference is not None:
            reference = self.reference[batch["index"].cpu()].to(values.device)
        return Scores(values, batch["tokens"], reference)

    def _without_adapter(self, forward: Any, batch: Batch) -> Tensor:
        """What the model says with its adapter switched off, and nothing dropped out."""
        adapted: Any = self.accelerator.unwrap_model(forward)
        training = adapted.training
        adapted.eval()
        with torch.no_grad(), adapted.disable_adapter():
            found = self._scorer(forward, batch)
        adapted.train(training)
        return found

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | None]:
        """The batches of an optimiser step, and the sum of their rows' weights over all processes."""
        self._began = time.perf_counter()
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_rows = [row for batch in batches for row in batch["index"].tolist()]
        weights = [self._objective.weights(batch["tokens"]).sum() for batch in batches]
        total = torch.stack(weights).sum().to(device) if weights else None
        if total is not None and self.args.world_size > 1:
            total = cast(Tensor, self.accelerator.gather(total[None])).sum()
        return batches, total

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        scores = self.scores(model, inputs)
        figures = row_figures(self._objective, scores)
        weights = self._objective.weights(scores.tokens)
        self._refuse_non_finite(figures["loss"], inputs)
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        # Gradients are averaged over processes, and the total is over all of them.
        loss = (figures["loss"] * weights).sum() / total * self.args.world_size
        self._noted.append(({name: values.detach() for name, values in figures.items()}, weights))
        return (loss, figures) if return_outputs else loss

    def _refuse_non_finite(self, losses: Tensor, batch: Batch) -> None:
        if bool(losses.isfinite().all()):
            return
        raise self._no_number("the loss", batch["index"][~losses.isfinite()].tolist())

    def _no_number(self, what: str, rows: Sequence[int]) -> TrainingError:
        places = cast(Any, self.train_dataset)[rows[:_SHOWN_PLACES]]["place"]
        step = self.state.global_step + 1
        return TrainingError(
            f"{what} is no number at step {step}, in the batch with {', '.join(places)}", _CALMER
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        self._tokens += int((inputs["segments"] != PAD).sum())
        return super().training_step(model, inputs, num_items_in_batch)

    def prediction_step(
        self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Tensor, Tensor]:
        """For each row its index and its figures, of which the last are its scores, and as labels its
        weight."""
        inputs = cast(Batch, self._prepare_inputs(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            scores = self.scores(model, inputs)
        figures = row_figures(self._objective, scores)
        columns = [inputs["index"], *figures.values()]
        weights = self._objective.weights(scores.tokens)
        return None, torch.stack([column.float() for column in columns], dim=1), weights

    # ---- figures

    def _names(self) -> list[str]:
        sides = 2 if self._objective.pairs else 1
        zeros = torch.zeros(1, sides)
        return list(row_figures(self._objective, Scores(zeros, zeros + 1, zeros)))

    def _metrics(self, found: Any) -> dict[str, float]:
        values, weights = torch.as_tensor(found.predictions), torch.as_tensor(found.label_ids)
        columns = values[:, 1:].unbind(dim=1)
        figures: dict[str, float] = means(dict(zip(self._names(), columns, strict=True)), weights)
        if not math.isfinite(figures["loss"]):
            step = self.state.global_step
            raise TrainingError(f"the loss of the validation is no number behind step {step}", _CALMER)
        return figures

    def answer_scores(self, dataset: Any) -> Tensor:
        """The scores of all answers of a dataset by the model as it is, `[rows, sides]`, in its order."""
        sides = 2 if self._objective.pairs else 1
        last = dataset["index"][-1]
        # The figures that come along need some reference; the scores don't depend on it.
        before, self.reference = self.reference, torch.zeros(last + 1, sides)
        values = torch.as_tensor(self.predict(dataset).predictions)
        self.reference = before
        ordered = torch.empty(len(dataset), sides)
        ordered[values[:, 0].long() - dataset["index"][0]] = values[:, -sides:].float()
        return ordered

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._noted:
            logs |= self._training_figures()
        super().log(logs, start_time)

    def _training_figures(self) -> dict[str, float]:
        """The figures since the last report, over all processes."""
        names = list(self._noted[0][0])
        columns = [torch.cat([figures[name] for figures, _ in self._noted]) for name in names]
        weights = torch.cat([weights for _, weights in self._noted])
        sums = torch.stack([column.float().sum() for column in columns[1:]])
        counts = torch.tensor([len(weights), self._tokens], dtype=torch.float32, device=weights.device)
        summed = torch.cat([sums, counts])
        if self.args.world_size > 1:
            summed = cast(Tensor, self.accelerator.reduce(summed))
        rows, tokens = summed[-2].item(), summed[-1].item()
        found = {name: (value / rows).item() for name, value in zip(names[1:], summed[:-2], strict=True)}
        found["tokens_per_second"] = tokens / max(self._seconds, 1e-9)
        found["rows_per_second"] = rows / max(self._seconds, 1e-9)
        self._noted.clear()
        self._tokens, self._seconds = 0, 0.0
        return found


class _Steps(TrainerCallback):
    """Tells the trainer that training begins, which epoch and which step does, and when a step is about to
    change the weights."""

    def __init__(self, trainer: ObjectiveTrainer):
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.note_start()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.begin_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.begin_step()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.check_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.end_step()
