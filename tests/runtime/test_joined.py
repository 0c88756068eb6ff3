"""Linear layers over the same states as one: the numbers of single ones, whoever calls them and when."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arith.operands.adapters import attach
from arith.operands.blocked_linear import BLOCK, computes
from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.operands.packed_linear import packs
from arith.runtime.backbones.joined import JoinedLinear, Joint, join_linears
from arith.runtime.backbones.lora import LaneAdapters, mix_adapters
from tests.conftest import save_lora

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]
pytestmark = pytest.mark.skipif(not DTYPES, reason="this processor has no such kernels")
IDS = torch.arange(3, 20)[None]


def load(path: str) -> Any:
    return load_model(LLM(path, dtype="float32").weights, CPU)


def joined_places(model: nn.Module) -> dict[int, list[str]]:
    """The places of joined layers, by what they share."""
    found: dict[int, list[str]] = {}
    for place, layer in model.named_modules():
        if isinstance(layer, JoinedLinear):
            found.setdefault(id(layer.joint), []).append(place)
    return found


class Toy(nn.Module):
    """A model whose layers `a` and `b` are called as `body` says."""

    def __init__(self, body: Callable[["Toy", Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(5, 6)
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4, bias=False)
        self.inner = nn.Sequential(nn.Linear(6, 4))
        self.body = body
        self.device = CPU

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.body(self, self.embed(input_ids))


def join(model: Any) -> LaneAdapters:
    lanes = LaneAdapters()
    join_linears(model, lanes)
    return lanes


def test_the_projections_of_a_llama_are_joined_and_its_logits_stay(tiny_llama: str) -> None:
    model = load(tiny_llama)
    with torch.inference_mode():
        expected = model(IDS).logits
        join(model)
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    layers = len(model.model.layers)
    kinds = [tuple(place.rpartition(".")[2] for place in places) for places in joined_places(model).values()]
    assert kinds == [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")] * layers


def test_single_layers_are_joined_with_their_adapters_alone(tiny_llama: str, tmp_path: Path) -> None:
    adapters = [
        save_lora(tmp_path / str(seed), tiny_llama, seed=seed, r=seed, target_modules=targets)
        for seed, targets in ((2, ["q_proj", "v_proj", "down_proj"]), (3, ["k_proj", "v_proj"]))
    ]
    expected = []
    for adapter in adapters:
        alone, _ = attach(load(tiny_llama), [adapter])
        with torch.inference_mode():
            expected.append(alone(IDS).logits)
    model = load(tiny_llama)
    lanes = mix_adapters(model, attach(model, adapters)[1])
    join_linears(model, lanes)
    sizes = [len(places) for places in joined_places(model).values()]
    assert sizes == [3, 2, 1] * len(model.model.layers)
    lanes.select([*adapters, None], IDS.shape[1])
    with torch.inference_mode():
        found = model(IDS.expand(3, -1)).logits
        bare = load(tiny_llama)(IDS).logits
    torch.testing.assert_close(found, torch.cat([*expected, bare]), rtol=1e-4, atol=1e-4)


def test_lanes_that_were_chosen_before_the_joining_get_their_masks(tiny_llama: str, lora_a: str) -> None:
    model = load(tiny_llama)
    lanes = mix_adapters(model, attach(model, [lora_a])[1])
    for adapter in (lora_a, None):  # the forward in which layers are seen is of one of the two
        lanes.select([adapter], IDS.shape[1])
    join_linears(model, lanes)
    seen = lanes.adapters
    for adapter in (lora_a, None):
        lanes.select([adapter], IDS.shape[1])
        with torch.inference_mode():
            model(IDS)
    assert seen == (), "what was chosen before doesn't count as chosen"


def test_a_layer_with_a_bias_is_joined_to_one_without() -> None:
    model = Toy(lambda toy, states: toy.a(states) * toy.b(states))
    with torch.inference_mode():
        expected = model(IDS[:, :2])
        join(model)
        torch.testing.assert_close(model(IDS[:, :2]), expected)
    assert list(joined_places(model).values()) == [["a", "b"]]


@pytest.mark.parametrize(
    "body",
    [
        lambda toy, states: toy.a(states) * toy.b(states + 0),
        lambda toy, states: toy.a(states) * toy.b(states.add_(1)),
        lambda toy, states: toy.a(states) * toy.inner(states),
        lambda toy, states: toy.a(states) * toy.b(states) * toy.b(states),
        lambda toy, states: toy.a(states) * toy.b(input=states),
    ],
    ids=["equal states", "changed states", "another module", "called twice", "called by name"],
)
def test_layers_that_are_called_in_other_ways_are_left(body: Callable[[Toy, Tensor], Tensor]) -> None:
    model = Toy(body)
    with torch.inference_mode():
        expected = model(IDS[:, :2])
        join(model)
        torch.testing.assert_close(model(IDS[:, :2]), expected)
    assert not joined_places(model)


def test_a_model_that_takes_no_such_forward_is_left() -> None:
    def fail(toy: Toy, states: Tensor) -> Tensor:
        raise TypeError("it needs more than tokens")

    model = Toy(fail)
    join(model)
    assert not joined_places(model)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_are_those_of_the_states_whatever_the_order(dtype: torch.dtype) -> None:
    layers = [nn.Linear(6, width, dtype=dtype) for width in (4, 3, 5)]
    joint = Joint(layers, LaneAdapters())
    members = [JoinedLinear(joint, number) for number in range(3)]
    first, second = torch.randn(2, 7, 6, dtype=dtype), torch.randn(2, 7, 6, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.inference_mode():
        for number, states in ((1, first), (0, first), (0, second), (2, first), (2, first), (1, second)):
            found, expected = members[number](states), layers[number](states)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert all(
        torch.equal(member.weight, layer.weight) for member, layer in zip(members, layers, strict=True)
    )


def test_nothing_is_kept_once_the_last_has_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = Joint([nn.Linear(6, 4), nn.Linear(6, 4)], LaneAdapters())
    products: list[Tensor] = []
    kind: Any = type(joint.product)
    run = kind.forward

    def counted(layer: nn.Module, states: Tensor) -> Tensor:
        products.append(run(layer, states))
        return products[-1]

    monkeypatch.setattr(kind, "forward", counted)
    states = torch.randn(3, 6)
    with torch.inference_mode():
        joint.part(0, states)
        joint.part(1, states)
        assert len(products) == 1
        states.add_(1)  # the same tensor with other numbers, in another forward
        torch.testing.assert_close(joint.part(0, states), joint.product(states)[:, :4])


@pytest.mark.skipif(not computes(torch.float32), reason="torch was built without MKL")
def test_the_outputs_of_joined_layers_are_whole_blocks() -> None:
    for outputs in (BLOCK, 3 * BLOCK + 1):
        product = Joint([nn.Linear(60, outputs), nn.Linear(60, outputs)], LaneAdapters()).product
        assert product.out_features == -(-2 * outputs // BLOCK) * BLOCK
