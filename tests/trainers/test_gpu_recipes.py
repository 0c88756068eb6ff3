"""The recipes that need GPUs: what they ask of the libraries reaches these unchanged. No weights are
quantised or divided here; stand-ins take the place of bitsandbytes and DeepSpeed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.test_recipes import RECIPES, ROOT, ROWS
from trainers import Recipe

LOADED = {path: Recipe.load(RECIPES[path]) for path in RECIPES if path != "smollm2-arm"}
QUANTIZED = [name for name, recipe in LOADED.items() if recipe.operand.quantization]
DIVIDED = [name for name, recipe in LOADED.items() if "deepspeed" in recipe.training]

PACKAGES = {
    "bitsandbytes": {
        "__init__.py": "from bitsandbytes import nn, optim\n",
        "nn.py": "",
        "optim.py": (
            "import torch\n\n\n"
            "class AdamW(torch.optim.Optimizer):\n"
            "    def __init__(self, params, **settings):\n"
            "        super().__init__(params, settings)\n\n\n"
            "Lion = RMSprop = AdamW\n"
        ),
    },
    "deepspeed": {"__init__.py": "class DeepSpeedEngine: ...\n"},
}


def install(folder: Path) -> None:
    """Packages that are found as those are."""
    for name, files in PACKAGES.items():
        facts = folder / f"{name}-99.0.dist-info"
        for home in (folder / name, facts):
            home.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        for file, text in files.items():
            (folder / name / file).write_text(text)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tiny_llama: str) -> dict[str, dict[str, Any]]:
    """What each recipe tells the libraries."""
    folder = tmp_path_factory.mktemp("gpu")
    install(folder / "packages")
    for recipe in LOADED.values():
        rows = next(rows for source, rows in ROWS.items() if recipe.data.source.startswith(source))
        (folder / f"{recipe.data.source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = Path(__file__).with_name("told_to_libraries.py")
    done = subprocess.run(
        # DeepSpeed once asked for stays so in a process.
        [sys.executable, program, tiny_llama, folder, *(RECIPES[name] for name in QUANTIZED + DIVIDED)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "packages"), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_recipe_of_the_paper_is_quantised_or_divided() -> None:
    assert sorted([*QUANTIZED, *DIVIDED]) == sorted(LOADED)


@pytest.mark.parametrize("name", QUANTIZED)
def test_four_bits_and_the_paged_optimiser_reach_bitsandbytes(
    told: dict[str, dict[str, Any]], name: str
) -> None:
    found, training = told[name], LOADED[name].training
    expected = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    assert expected.items() <= found["quantization"].items()
    assert (found["dtype"], found["bf16"], found["placed"]) == ("torch.bfloat16", True, True)
    assert found["optimizer"] == "bitsandbytes.optim.AdamW"
    settings = {"optim_bits": 32, "is_paged": True, "lr": training["learning_rate"]}
    assert settings.items() <= found["settings"].items()
    assert found["weight_decay"] == training["weight_decay"]
    assert found["activation_checkpointing"] and found["deepspeed"] is None and found["attention"] is None


@pytest.mark.parametrize("name", DIVIDED)
def test_flash_attention_and_divided_weights_reach_transformers_and_deepspeed(
    told: dict[str, dict[str, Any]], name: str
) -> None:
    """What the recipe leaves to be found out is filled in: the dtype, the rows and the clipping."""
    found, asked = told[name], LOADED[name].training["deepspeed"]
    assert found["attention"] == "flash_attention_2" and found["quantization"] is None
    assert not found["placed"], "DeepSpeed places the weights"
    assert found["deepspeed"]["zero_optimization"].items() >= asked["zero_optimization"].items()
    filled = {
        "bf16": {"enabled": True}, "gradient_clipping": 1.0, "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 4, "train_batch_size": 4,
    }  # fmt: skip
    assert asked.keys() - filled.keys() == {"zero_optimization"}
    assert filled.items() <= found["deepspeed"].items()
    assert found["bf16"] and found["activation_checkpointing"]
    assert found["settings"]["lr"] == LOADED[name].training["learning_rate"]
