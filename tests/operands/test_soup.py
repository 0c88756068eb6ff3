"""Rewarded soups against weights that are merged by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arith import LLM, OperandError
from arith.operands.adapters import attach
from arith.operands.loading import load_model
from arith.operands.manifest import Manifest, read_manifest
from arith.operands.soup import write_soup
from tests.conftest import save_lora


def differences(model: str, adapter: str) -> dict[str, torch.Tensor]:
    """What the adapter adds to each of the model's weights, `[out, in]` in float64, from its files alone."""
    from safetensors.torch import load_file

    config = json.loads((Path(adapter) / "adapter_config.json").read_text())
    tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    found = {}
    for name, down in tensors.items():
        if "lora_A" in name:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            up = tensors[name.replace("lora_A", "lora_B")]
            rank = down.shape[0]
            alpha = config["alpha_pattern"].get(module, config["lora_alpha"])
            scaling = alpha / (rank**0.5 if config["use_rslora"] else rank)
            found[module] = scaling * up.double() @ down.double()
    return found


def logits(model: str, adapter: str | None, added: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Logits `[1, 5, vocab]` of the model with the adapter, or with the differences added to its weights."""
    loaded: Any = load_model(LLM(model, dtype="float32").weights, torch.device("cpu"))
    if adapter is not None:
        loaded = attach(loaded, [adapter])[0]
    for module, difference in (added or {}).items():
        loaded.get_submodule(module).weight.data += difference.float()
    with torch.no_grad():
        result: torch.Tensor = loaded(input_ids=torch.tensor([[5, 80, 100, 33, 261]])).logits
    return result


def weighted(model: str, weights: dict[str, float]) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = {}
    for adapter, weight in weights.items():
        for module, difference in differences(model, adapter).items():
            total[module] = total.get(module, torch.zeros_like(difference)) + weight * difference
    return total


@pytest.mark.parametrize("pair", [(0.5, 0.5), (0.3, 0.7), (1.5, -0.5), (0.0, 1.0), (0.25, 0.5)])
def test_a_soup_is_the_weighted_sum_of_the_weight_differences(
    tiny_llama: str, lora_a: str, lora_b: str, tmp_path: Path, pair: tuple[float, float]
) -> None:
    """Ranks 4 and 8, other modules, and scalings 8/4 and 6/√8."""
    weights = dict(zip((lora_a, lora_b), pair, strict=True))
    write_soup(weights, tmp_path / "soup")
    expected = weighted(tiny_llama, weights)
    found = differences(tiny_llama, str(tmp_path / "soup"))
    assert found.keys() == expected.keys()
    for module, difference in found.items():
        torch.testing.assert_close(difference, expected[module], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        logits(tiny_llama, str(tmp_path / "soup")), logits(tiny_llama, None, expected), rtol=1e-3, atol=1e-4
    )


def test_the_order_of_the_adapters_does_not_matter(
    tiny_llama: str, lora_a: str, lora_b: str, tmp_path: Path
) -> None:
    """The first one has the rank-stabilised scaling, which peft takes over from it."""
    write_soup({lora_b: 0.6, lora_a: 0.4}, tmp_path / "soup")
    found = differences(tiny_llama, str(tmp_path / "soup"))
    for module, difference in weighted(tiny_llama, {lora_a: 0.4, lora_b: 0.6}).items():
        torch.testing.assert_close(found[module], difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "restriction",
    [
        {"layers_to_transform": [1]},
        {"exclude_modules": ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]},
    ],
)
def test_patterns_and_layers_of_each_adapter_are_kept(
    tiny_llama: str, lora_a: str, tmp_path: Path, restriction: dict[str, Any]
) -> None:
    special = save_lora(
        tmp_path / "special", tiny_llama, seed=21, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2}, alpha_pattern={"model.layers.1.mlp.down_proj": 16}, **restriction,
    )  # fmt: skip
    weights = {special: 0.5, lora_a: 2.0}
    write_soup(weights, tmp_path / "soup")
    found = differences(tiny_llama, str(tmp_path / "soup"))
    expected = weighted(tiny_llama, weights)
    assert found.keys() == expected.keys()
    assert {name for name in expected if "down_proj" in name} == {"model.layers.1.mlp.down_proj"}
    for module, difference in found.items():
        torch.testing.assert_close(difference, expected[module], rtol=1e-5, atol=1e-6)


def test_the_weights_of_the_base_are_not_needed(
    new_llama: Callable[..., str], tmp_path: Path, lora_a: str
) -> None:
    base = new_llama("soup_base", seed=31)
    adapters = [
        save_lora(tmp_path / f"lora{seed}", base, seed=seed, r=2, target_modules=["q_proj"])
        for seed in (1, 2)
    ]
    (Path(base) / "model.safetensors").unlink()
    write_soup(dict.fromkeys(adapters, 0.5), tmp_path / "soup")
    assert differences(base, str(tmp_path / "soup"))


def test_mixing_leaves_the_random_numbers_of_torch_alone(lora_a: str, lora_b: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    write_soup({lora_a: 0.5, lora_b: 0.5}, tmp_path / "soup")
    assert torch.equal(torch.get_rng_state(), before)


def manifest(model: str, template: str | None) -> Manifest:
    return Manifest("adapter", model, None, None, template, {"name": "dpo", "beta": 0.1})


def copied(adapter: str, folder: Path, own: Manifest) -> str:
    shutil.copytree(adapter, folder)
    own.write(folder)
    return str(folder)


def test_a_soup_of_trained_adapters_is_an_operand_by_its_folder_alone(
    tiny_llama: str, lora_a: str, lora_b: str, tmp_path: Path
) -> None:
    parts = [
        copied(adapter, tmp_path / name, manifest(tiny_llama, "Q: {prompt}\nA:"))
        for name, adapter in (("a", lora_a), ("b", lora_b))
    ]
    assert write_soup({parts[0]: 0.25, parts[1]: 0.75}, tmp_path / "soup") == []
    operand = LLM(adapter=str(tmp_path / "soup"))
    assert (operand.model, operand.template) == (tiny_llama, "Q: {prompt}\nA:")
    written = read_manifest(str(tmp_path / "soup"))
    assert written is not None
    assert written.objective == {"name": "soup", "weights": {parts[0]: 0.25, parts[1]: 0.75}}


def test_a_soup_of_other_prompt_formats_has_no_manifest_and_a_note(
    tiny_llama: str, lora_a: str, lora_b: str, tmp_path: Path
) -> None:
    part = copied(lora_a, tmp_path / "a", manifest(tiny_llama, "Q: {prompt}"))
    other = copied(lora_b, tmp_path / "b", manifest(tiny_llama, "{prompt}"))
    for number, (second, word) in enumerate(((other, "different"), (lora_b, "don't all tell"))):
        notes = write_soup({part: 0.5, second: 0.5}, tmp_path / f"soup{number}")
        assert len(notes) == 1 and word in notes[0] and "`template`" in notes[0]
        assert read_manifest(str(tmp_path / f"soup{number}")) is None


def test_what_lies_beside_the_new_folder_stays(lora_a: str, lora_b: str, tmp_path: Path) -> None:
    beside = tmp_path / "soup.part"
    beside.mkdir()
    (beside / "notes.txt").write_text("mine")
    write_soup({lora_a: 0.5, lora_b: 0.5}, tmp_path / "soup")
    assert (beside / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soup", "soup.part"]


def test_what_is_no_soup_is_refused_and_writes_nothing(
    tiny_llama: str, lora_a: str, lora_b: str, lora_dora: str, lora_modules_to_save: str,
    lora_other_architecture: str, tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "soup"
    cases: list[tuple[dict[str, float], str]] = [
        ({lora_a: 0.5, lora_other_architecture: 0.5}, "have different bases"),
        ({lora_a: 0.5, lora_dora: 0.5}, "DoRA"),
        ({lora_modules_to_save: 0.5, lora_a: 0.5}, "modules_to_save"),
        ({lora_a: 1.0}, "at least two adapters"),
        ({lora_a: 0.5, lora_b: 0.25, f"{lora_a}/": 0.25}, "are one adapter"),
        ({lora_a: 0.5, lora_b: float("nan")}, "isn't finite"),
        ({lora_a: 0.5, str(tmp_path / "none"): 0.5}, "there is no adapter folder"),
        ({lora_a: 0.5, tiny_llama: 0.5}, "isn't a peft adapter"),
    ]
    for weights, words in cases:
        with pytest.raises(OperandError, match=words):
            write_soup(weights, out)
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    with pytest.raises(OperandError, match="is there already"):
        write_soup({lora_a: 0.5, lora_b: 0.5}, out)
