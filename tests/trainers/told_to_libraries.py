"""What recipes tell the libraries of GPUs, as one JSON object: `told_to_libraries.py MODEL DATA RECIPE …`.

A program of its own, since libraries look once for others: bitsandbytes and DeepSpeed are stand-ins on its
path. MODEL takes the place of the recipes' own, and DATA is a folder with a file for each source.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import AcceleratorState, PartialState

from arith.operands import loading
from tests.trainers.conftest import made
from trainers import Recipe

_loading: Any = loading
_quantization = loading._quantization
_builder: Any = transformers.AutoModelForCausalLM


def told(recipe: Recipe, model: Any) -> dict[str, Any]:
    """How the model is loaded and what the trainer is set to, by the libraries' names."""
    loading_settings: dict[str, Any] = {}

    def noting(_: str, **settings: Any) -> Any:
        loading_settings.update(settings)
        return model, {"missing_keys": []}

    _builder.from_pretrained = noting
    trainer = made(recipe)
    optimizer = trainer.create_optimizer()
    plugin = trainer.args.deepspeed_plugin
    quantization = loading_settings["quantization_config"]
    return {
        "dtype": str(loading_settings["dtype"]),
        "attention": loading_settings.get("attn_implementation"),
        "quantization": None if quantization is None else quantization.to_diff_dict(),
        "placed": loading_settings["device_map"] is not None,
        "optimizer": f"{type(optimizer).__module__}.{type(optimizer).__name__}",
        "settings": optimizer.defaults,
        "weight_decay": max(group["weight_decay"] for group in optimizer.param_groups),
        "activation_checkpointing": trainer.args.activation_checkpointing,
        "bf16": trainer.args.bf16,
        "deepspeed": None if plugin is None else plugin.deepspeed_config,
    }


def main(model: str, data: Path, recipes: list[Path]) -> None:
    plain = _builder.from_pretrained
    # Quantised weights are asked for as on a GPU.
    _loading._quantization = lambda weights, dtype, _: _quantization(weights, dtype, torch.device("cuda"))
    found = {}
    for path in recipes:
        file = data / f"{Recipe.load(path).data.source}.jsonl"
        changes = {
            "operand.model": model, "data.train": file, "data.validation": file, "data.max_length": 256,
            "data.max_prompt_length": 128, "output": data / "out",
        }  # fmt: skip
        _builder.from_pretrained = plain
        small = plain(model)
        recipe = Recipe.load(path, [f"{key}={value}" for key, value in changes.items()])
        found[path.stem] = told(recipe, small)
        for state in (AcceleratorState, PartialState):
            state._reset_state()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
