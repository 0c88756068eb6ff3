"""Single layers with adapters, whose A matrices are products of their own: what peft gives for each lane."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arith.operands.adapters import attach
from arith.operands.blocked_linear import BLOCK, computes
from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.runtime.backbones.adapted_linear import AdaptedLinear
from arith.runtime.backbones.joined import JoinedLinear, join_linears
from arith.runtime.backbones.lora import LaneAdapters, mix_adapters
from tests.conftest import save_lora

pytestmark = pytest.mark.skipif(not computes(torch.float32), reason="torch was built without MKL")
IDS = torch.arange(3, 20)[None]


def load(path: str) -> Any:
    return load_model(LLM(path, dtype="float32").weights, torch.device("cpu"))


@pytest.fixture
def wide_llama(new_llama: Callable[..., str]) -> str:
    """A Llama whose layers have more outputs than a block."""
    return new_llama("wide_llama", seed=5, hidden_size=2 * BLOCK, intermediate_size=600, num_hidden_layers=1)


@pytest.fixture
def adapters(wide_llama: str, tmp_path: Path) -> list[str]:
    targets = (["q_proj", "down_proj"], ["down_proj", "o_proj"])
    return [
        save_lora(tmp_path / str(rank), wide_llama, seed=rank, r=rank, target_modules=one)
        for rank, one in enumerate(targets, start=2)
    ]


def joined(path: str, adapters: list[str], *, half: bool = False) -> tuple[Any, LaneAdapters]:
    model = load(path)
    lanes = mix_adapters(model, attach(model, adapters)[1])
    join_linears(model, lanes, half=half)
    return model, lanes


def test_lanes_of_every_adapter_and_of_none_get_what_peft_gives(wide_llama: str, adapters: list[str]) -> None:
    model, lanes = joined(wide_llama, adapters)
    layer = model.model.layers[0]
    kinds = [layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.down_proj]
    assert list(map(type, kinds)) == [JoinedLinear, AdaptedLinear, JoinedLinear, AdaptedLinear]
    lanes.select([None, *adapters], IDS.shape[1])
    with torch.inference_mode():
        expected = [load(wide_llama)(IDS).logits]
        expected += [attach(load(wide_llama), [adapter])[0](IDS).logits for adapter in adapters]
        found = model(IDS.expand(3, -1)).logits
        lanes.select([None], IDS.shape[1])
        bare = model(IDS).logits
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bare, expected[0], rtol=1e-4, atol=1e-4)
    assert (expected[0] - expected[2]).abs().max() > 0.1, "the adapter changes something"


def test_a_layers_lanes_are_told_apart_in_every_shape_and_its_copies_and_programs_agree(
    wide_llama: str, adapters: list[str]
) -> None:
    model, lanes = joined(wide_llama, adapters)
    layer = model.model.layers[0].mlp.down_proj
    assert torch.equal(layer.weight, load(wide_llama).model.layers[0].mlp.down_proj.weight)
    lanes.select([adapters[1], None, adapters[0]], 2)
    states = torch.randn(3, 2, layer.in_features)
    program: Any = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.inference_mode():
        expected = layer(states)
        each = []
        for adapter, own in zip(lanes.adapters, states, strict=True):
            alone = load(wide_llama)
            if adapter is not None:
                attach(alone, [adapter])
            each.append(alone.model.layers[0].mlp.down_proj(own))
        torch.testing.assert_close(expected, torch.stack(each), rtol=1e-4, atol=1e-4)
        for shape in ((6,), (1, 6)):
            assert torch.equal(layer(states.view(*shape, -1)).view(3, 2, -1), expected)
        assert torch.equal(copy.deepcopy(layer)(states), expected)
        torch.testing.assert_close(program(states), expected)


def test_layers_of_float16_weights_and_of_a_single_block_stay_joints(
    tiny_llama: str, wide_llama: str, adapters: list[str], tmp_path: Path
) -> None:
    narrow = save_lora(tmp_path / "narrow", tiny_llama, seed=4, target_modules=["down_proj"])
    for model, _ in (joined(wide_llama, adapters, half=True), joined(tiny_llama, [narrow])):
        assert type(model.model.layers[0].mlp.down_proj) is JoinedLinear
