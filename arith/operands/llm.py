"""The declaration of a causal language model as an operand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from arith.errors import OperandError
from arith.language.formula import Algebra
from arith.operands.declaration import DTYPES, check_choice, check_filled, check_texts
from arith.operands.locate import canonical
from arith.operands.manifest import read_manifest

RAW = "raw"
FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
FORMAT = ("system", "template")
AS_TRAINED: Any = ...
"""As a system prompt or a template: that of the training, in a folder that one wrote, and else none."""
_QUANTIZATIONS = ("4bit", "8bit")
_VOCABULARIES = ("common", "strict")


@dataclass(frozen=True)
class Weights:
    """The identity of one set of loaded weights: operands with equal `weights` share them."""

    model: str
    revision: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    device_map: str | None = None


@dataclass(frozen=True)
class LLM(Algebra):
    """A causal language model, its prompt format included. Equal only to an operand equal in every field.

    model: hub id, local folder, GGUF file, or `package:NAME/FILE` (a file inside an installed package). May
        be left out where `adapter` is a folder written by training.
    adapter: peft adapter on top of it, a local folder or hub id.
    revision: branch, tag or commit of a hub model.
    system: system prompt; None sends no system message, "" an empty one.
    template: None for the tokenizer's chat template, "raw" for the bare text, or a text with `{prompt}`.
    dtype: of the weights, such as "bfloat16" (or the torch.dtype); None for the checkpoint's own,
        bfloat16 for a GGUF file, each where the device computes in it.
    quantization: "4bit" or "8bit" (bitsandbytes).
    device_map: as in transformers, such as "auto".
    vocab: "common" trims a longer vocabulary to the part shared by the formula, "strict" refuses to.

    A folder written by training, as `adapter` or as `model`, tells by its manifest the base model and its
    revision, the system prompt and the template, where these aren't given; of the latter two None counts as
    given.

    Raises `OperandError`, which names the field, for a value that none of these can be.
    """

    model: str = ""
    adapter: str | None = None
    revision: str | None = None
    system: str | None = AS_TRAINED
    template: str | None = AS_TRAINED
    dtype: str | torch.dtype | None = None
    quantization: str | None = None
    device_map: str | None = None
    vocab: str = "common"

    def __post_init__(self) -> None:
        open_keys = [name for name in FORMAT if getattr(self, name) is AS_TRAINED]
        for name in open_keys:
            object.__setattr__(self, name, None)
        others = ("adapter", "revision", *FORMAT, "dtype", "quantization", "device_map")
        check_texts(self, ("model", "vocab"), others)
        self._take_from_manifest(open_keys)
        if not self.model and self.adapter:
            raise OperandError(
                f"operand: no `model`, and {self.adapter} doesn't tell what it was made for",
                "a folder written by training does; for any other adapter name its base model",
            )
        check_filled(self, ("model", "adapter", "revision", "device_map"))
        check_choice(self, "dtype", DTYPES)
        check_choice(self, "quantization", _QUANTIZATIONS)
        check_choice(self, "vocab", _VOCABULARIES)
        self._check_template()

    def __hash__(self) -> int:
        """Computed once: operands are the keys of whatever a step looks up, lane by lane."""
        found: int | None = self.__dict__.get("_hash")
        if found is None:
            found = hash(tuple(getattr(self, field.name) for field in fields(self)))
            object.__setattr__(self, "_hash", found)
        return found

    def __getstate__(self) -> dict[str, object]:
        """Without the hash, which is another one in another process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _take_from_manifest(self, open_keys: Sequence[str]) -> None:
        """Fields that aren't given, from the folder that training wrote: of `FORMAT` the `open_keys`."""
        folder = self.adapter or self.model
        manifest = read_manifest(folder) if folder.strip() else None
        if manifest is None:
            return
        if manifest.kind == "reward_model":
            raise OperandError(f"{folder} is a reward model", "declare it as a RewardModel")
        if manifest.kind == "adapter" and not self.adapter:
            object.__setattr__(self, "model", "")
            object.__setattr__(self, "adapter", folder)
        if not self.model:
            object.__setattr__(self, "model", manifest.model)
            object.__setattr__(self, "revision", self.revision or manifest.revision)
        # A template of one's own may have no place for the system prompt.
        if "system" in open_keys and (self.template is None or "system" in FIELD.findall(self.template)):
            object.__setattr__(self, "system", manifest.system)
        if "template" in open_keys:
            object.__setattr__(self, "template", manifest.template)

    def _check_template(self) -> None:
        if self.template is None:
            return
        if self.template == RAW:
            if self.system is not None:
                raise OperandError(
                    "operand: `system` is given, but template `raw` has no place for it",
                    "write a template with {system} and {prompt}, or leave one of the two out",
                )
            return
        named = FIELD.findall(self.template)
        if "prompt" not in named:
            raise OperandError(
                f"operand: the template {self.template!r} has no {{prompt}}",
                "put {prompt} where the prompt belongs, or write `raw` for the bare prompt",
            )
        if "system" in named and self.system is None:
            raise OperandError(
                f"operand: the template {self.template!r} uses {{system}}, but `system` isn't given",
                'give `system` (it may be ""), or take {system} out of the template',
            )
        if self.system is not None and "system" not in named:
            raise OperandError(
                f"operand: `system` is given, but the template {self.template!r} has no {{system}}",
                "put {system} where it belongs, or leave `system` out",
            )

    @property
    def weights(self) -> Weights:
        """What has to be loaded for this operand, its adapter aside. One local path has one spelling here."""
        assert not isinstance(self.dtype, torch.dtype)
        return Weights(canonical(self.model), self.revision, self.dtype, self.quantization, self.device_map)
