"""The arguments of transformers' trainer, from a recipe."""

import math
from dataclasses import fields
from importlib.util import find_spec
from typing import Any, get_args, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments

from arith.errors import ArithError, OptionError, SpecError
from arith.operands.loading import resolve_device
from arith.validation import refusal
from grammar.errors import nearest
from trainers.models.trainable import Precision
from trainers.recipe import Recipe

_NUMBERS = {int, float, bool, type(None)}
# Of a run; a shorter one would lose too much to a crash, and a longer one spend too much on disks.
SAVES, EVALUATIONS, REPORTS = 0.1, 0.2, 0.02
OURS = {
    "output_dir": "it is the recipe's `output`",
    "bf16": "the operand's `dtype` is the training's",
    "fp16": "the operand's `dtype` is the training's",
    "max_length": "it belongs under `data`",
    "beta": "it belongs under `objective`",
    "resume_from_checkpoint": "an unfinished folder is resumed by itself",
    "save_only_model": "a run that goes on needs the state of its optimiser too",
    "remove_unused_columns": "the columns are arith's own",
    "disable_tqdm": "the progress is told in lines",
    "eval_on_start": "the validation always runs before the first step",
    "logging_nan_inf_filter": "a loss that is no number ends the run",
    "batch_eval_metrics": "figures are means over all rows",
    "auto_find_batch_size": "the order of rows depends on it, and so on the memory at hand",
    "eval_do_concat_batches": "figures are means over all rows",
    "ignore_data_skip": "a run that goes on takes the rows that are left",
    "train_sampling_strategy": "batches hold rows of similar lengths already",
    "label_smoothing_factor": "the objective has `label_smoothing`",
    "load_best_model_at_end": "the manifest names one run to its end; stop earlier with `max_steps`",
}


# What transformers and torch find out only when they use it.
_LEAST = {
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "seed": 0,
    "data_seed": 0,
}


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """`transformers.TrainingArguments` of the recipe, which name the device.

    Unless it says otherwise: reports, validations and checkpoints in even shares of the run, the newest
    checkpoint alone kept, nothing reported elsewhere. Raises `SpecError`, which names the file, the line and
    the key, for a name or a value that they don't take.
    """
    _check(recipe)
    validates = recipe.data.validation is not None
    settings: dict[str, Any] = {
        "logging_steps": REPORTS,
        "save_steps": SAVES,
        "save_total_limit": 1,
        "eval_steps": EVALUATIONS,
        "eval_strategy": "steps" if validates else "no",
        "report_to": "none",
        "ddp_find_unused_parameters": False,
        # Without it accelerate sees no other processes on a machine without a GPU.
        "use_cpu": resolve_device(None).type == "cpu",
    }
    settings |= recipe.training
    if not validates and settings["eval_strategy"] != "no":
        place = recipe.document.place(("training", "eval_strategy"))
        raise SpecError(f"{place}: there is nothing to validate on", "name `data.validation`")
    ours = {
        "output_dir": str(recipe.output),
        "eval_on_start": validates,  # on the very rows that are used afterwards
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    assert ours.keys() <= OURS.keys()
    try:
        arguments = TrainingArguments(**settings | ours)
        arguments = _with_precision(recipe, arguments, settings | ours)
    except ArithError:  # of a model, whose dtype is asked for
        raise
    except (ValueError, TypeError, ImportError, OSError) as error:
        place = recipe.document.place(("training",))
        raise SpecError(f"{place}: training: {' '.join(str(error).split())}") from None
    if arguments.n_gpu > 1:
        raise OptionError(
            f"{arguments.n_gpu} GPUs are seen by one process",
            "accelerate launch -m trainers RECIPE.yaml starts one for each; or CUDA_VISIBLE_DEVICES=0",
        )
    return arguments


def _with_precision(
    recipe: Recipe, arguments: TrainingArguments, settings: dict[str, Any]
) -> TrainingArguments:
    """The same with autocast to the operand's dtype, which is known once the device is."""
    device = arguments.device
    dtype = precision(recipe, device).dtype
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype)
    if name is not None:
        return TrainingArguments(**settings | {name: True})
    arguments.mixed_precision = "no"  # whatever a launcher was told
    return arguments


def rows_a_step(arguments: TrainingArguments) -> int:
    """How many rows all processes together take for one step of the optimiser."""
    slices: int = arguments.gradient_accumulation_steps * arguments.world_size
    return arguments.train_batch_size * slices


def precision(recipe: Recipe, device: torch.device) -> Precision:
    """The dtypes of the run."""
    return Precision.of(recipe.operand, device, full=recipe.adapter is None)


def _check(recipe: Recipe) -> None:
    """Raises `SpecError` for an argument that isn't one, and for a value of another type: transformers looks
    at few of them."""
    kinds = get_type_hints(TrainingArguments)
    known = [field.name for field in fields(TrainingArguments) if field.init]
    for name in recipe.training:
        place = recipe.document.place(("training", name))
        if name in OURS:
            raise SpecError(f"{place}: `training.{name}` isn't yours to set here: {OURS[name]}")
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean `{close}`?" if close else "the names are those of transformers"
            raise SpecError(f"{place}: unknown key `training.{name}`", hint)
        kind = kinds[name]
        if kind in _NUMBERS or set(get_args(kind)) <= _NUMBERS:
            try:
                TypeAdapter(kind).validate_python(recipe.training[name], strict=True)
            except ValidationError as invalid:
                raise refusal(invalid, recipe.document, (), lambda _: (), around=("training", name)) from None
        _check_range(name, recipe.training[name], place)
        if name == "deepspeed" and recipe.training[name] and find_spec("deepspeed") is None:
            # transformers would keep the settings for the next model that is loaded in this process.
            raise SpecError(
                f"{place}: `training.deepspeed` needs the package deepspeed", "pip install deepspeed"
            )


def _check_range(name: str, value: Any, place: str) -> None:
    """Raises `SpecError` for a number that no run can have."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{place}: `training.{name}` must be finite (it is {value})")
    if name in _LEAST and value is not None and value < _LEAST[name]:
        raise SpecError(f"{place}: `training.{name}` must be at least {_LEAST[name]} (it is {value})")
    if name in ("seed", "data_seed") and value is not None and value >= 2**32:
        raise SpecError(f"{place}: `training.{name}` must be less than 2**32 (it is {value})")
    if (name == "num_train_epochs" and value <= 0) or (name == "max_steps" and (value == 0 or value < -1)):
        raise SpecError(f"{place}: `training.{name}` must be more than 0 (it is {value})")
