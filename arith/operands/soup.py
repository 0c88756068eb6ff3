"""Rewarded soups: LoRA adapters of one base model, interpolated in the space of its weights."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from arith.errors import OperandError, reason_of
from arith.operands.adapters import adapter_config, attach, unmixable
from arith.operands.llm import Weights
from arith.operands.loading import load_config
from arith.operands.locate import canonical
from arith.operands.manifest import Manifest, read_manifest
from arith.operands.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

SOUP = "default"  # what peft calls the adapter that it writes into the folder itself


def write_soup(weights: Mapping[str, float], out: Path) -> list[str]:
    """Writes the adapter whose weight difference is `Σ weight·difference` over at least two LoRA adapters.

    weights: of each adapter (a peft folder or hub id), finite; they need not sum to one. out: a folder that
    isn't there yet. Its adapter has the sum of the ranks and is in float32; its manifest says what it was
    made of. The weights of the base model aren't read. Returns notes for the user.

    Rewarded soups: Ramé et al. 2023, arXiv 2306.04488; Jang et al. 2023, arXiv 2310.11564.

    Raises `OperandError` for adapters that can't be found or mixed, for different bases, and for a folder
    that is there or can't be written.
    """
    _check(weights, out)
    model, revision = _base(list(weights))
    peft_model, names = attach(_shape_of(model, revision), list(weights))
    with quiet(), torch.random.fork_rng(devices=[]):
        _mix(peft_model, [names[adapter] for adapter in weights], list(weights.values()))
    manifest, notes = _manifest(weights, model, revision)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            part = Path(folder) / "soup"
            with quiet():
                peft_model.save_pretrained(str(part), selected_adapters=[SOUP], save_embedding_layers=False)
            (part / "README.md").unlink()  # peft's form of a model card, to be filled in
            if manifest is not None:
                manifest.write(part)
            os.replace(part, out)
    except OSError as error:
        reason = reason_of(error)
        raise OperandError(f"the folder {out} can't be written: {reason}") from None
    return notes


def _check(weights: Mapping[str, float], out: Path) -> None:
    if out.exists():
        raise OperandError(f"{out} is there already", "name another folder, or remove it")
    if len(weights) < 2:
        raise OperandError("a soup is made of at least two adapters")
    spellings: dict[str, str] = {}
    for adapter, weight in weights.items():
        first = spellings.setdefault(canonical(adapter), adapter)
        if first != adapter:
            raise OperandError(f"{first} and {adapter} are one adapter: give it once")
        if not math.isfinite(weight):
            raise OperandError(f"the weight of {adapter} isn't finite: {weight}")
        if (reason := unmixable(adapter)) is not None:
            raise OperandError(f"the adapter {adapter} can't be part of a soup: {reason}")


def _base(adapters: Sequence[str]) -> tuple[str, str | None]:
    """The model that all of them were made for, and its revision."""
    bases = {adapter: _base_of(adapter) for adapter in adapters}
    first = bases[adapters[0]]
    for adapter, base in bases.items():
        if base != first:
            raise OperandError(
                f"the adapters have different bases: {adapters[0]} was made for {_in_words(*first)}, and "
                f"{adapter} for {_in_words(*base)}",
                "a soup needs one base; a formula can name both as operands all the same",
            )
    return first


def _base_of(adapter: str) -> tuple[str, str | None]:
    manifest = read_manifest(adapter)
    if manifest is not None:
        return canonical(manifest.model), manifest.revision
    config = adapter_config(adapter)
    if not config.base_model_name_or_path:
        raise OperandError(f"the adapter {adapter} doesn't tell what model it was made for")
    return canonical(config.base_model_name_or_path), config.revision


def _in_words(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model} at {revision}"


def _shape_of(model: str, revision: str | None) -> "PreTrainedModel":
    """The model without its weights: every tensor has its shape, and the memory of one number.

    peft puts what it adds beside the tensors that are there, so these can't be on the device `meta`.
    """
    from transformers import AutoModelForCausalLM

    builder: Any = AutoModelForCausalLM
    config = load_config(Weights(model, revision))
    with quiet(), torch.device("meta"):
        shape: PreTrainedModel = builder.from_config(config, dtype=torch.float32)
    for module in shape.modules():
        for name, tensor in list(module.named_parameters(recurse=False)):
            one = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
            setattr(module, name, torch.nn.Parameter(one, requires_grad=False))
    shape.name_or_path = model
    return shape


def _mix(peft_model: "PeftModel", names: Sequence[str], weights: Sequence[float]) -> None:
    """Adds the adapter `SOUP`. What peft takes over from the first adapter is set to what holds for all."""
    lora: Any = peft_model.base_model
    lora.float()
    for name in names:
        config = lora.peft_config[name]
        config.target_modules = _adapted(lora, name)
        for restriction in ("layers_to_transform", "layers_pattern", "exclude_modules"):
            setattr(config, restriction, None)
        config.init_lora_weights = True  # others would look at the base's weights
    lora.add_weighted_adapter(list(names), list(weights), SOUP, combination_type="cat")
    # The scalings are in the tensors: the soup's own is 1, which with this setting would be √rank.
    lora.peft_config[SOUP].use_rslora = False


def _adapted(lora: Any, name: str) -> set[str]:
    """The modules that the adapter changes, by their full names."""
    from peft.tuners.lora import LoraLayer

    return {
        path
        for path, module in lora.model.named_modules()
        if isinstance(module, LoraLayer) and (name in module.lora_A or name in module.lora_embedding_A)
    }


def _manifest(
    weights: Mapping[str, float], model: str, revision: str | None
) -> tuple[Manifest | None, list[str]]:
    """The soup's manifest, where those of its adapters agree in the prompt format; else a note on it."""
    found = [read_manifest(adapter) for adapter in weights]
    formats = {None if one is None else (one.system, one.template) for one in found}
    if len(formats) != 1 or None in formats:
        said = "don't all tell their prompt format" if None in formats else "have different prompt formats"
        return None, [f"the adapters {said}: an operand has to name `model` and `template` itself"]
    system, template = next(one for one in formats if one is not None)
    parts = {canonical(adapter): weight for adapter, weight in weights.items()}
    objective = {"name": "soup", "weights": parts}
    return Manifest("adapter", model, revision, system, template, objective), []
