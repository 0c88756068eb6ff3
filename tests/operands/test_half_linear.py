"""Linear layers with float16 weights: float32 products of the rounded weights, where these have room."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear as product

from arith.operands.half_linear import HalfLinear, computes, fits
from arith.operands.packing import pack_linears, packed

CPU = torch.device("cpu")
FLOAT32 = type(packed(nn.Linear(1, 1), half=False))
pytestmark = pytest.mark.skipif(not computes(CPU), reason="this processor has no such kernels")


def rounded(layer: nn.Linear, states: Tensor) -> Tensor:
    """What the layer gives in float64 with weights of 11 significant bits."""
    bias = None if layer.bias is None else layer.bias.double()
    return product(states.double(), layer.weight.half().double(), bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (2, 5), (7, 33), (0,), (2, 0), (1, 3, 5), (), (300,)])
def test_states_are_multiplied_by_the_rounded_weights_and_by_nothing_coarser(
    bias: bool, shape: tuple[int, ...]
) -> None:
    layer = nn.Linear(70, 33, bias=bias)
    states = torch.randn(*shape, 70)
    with torch.inference_mode():
        found = HalfLinear(layer)(states)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), rounded(layer, states), rtol=1e-5, atol=1e-5)


def test_states_in_any_memory_layout_are_read_as_they_are() -> None:
    layer = nn.Linear(6, 4)
    half = HalfLinear(layer)
    with torch.inference_mode():
        for states in (torch.randn(2, 6, 17).transpose(1, 2), torch.randn(5, 12)[:, ::2], torch.ones(1, 6)):
            torch.testing.assert_close(half(states).double(), rounded(layer, states), rtol=1e-5, atol=1e-5)
        expanded = torch.randn(1, 6).expand(19, 6)
        torch.testing.assert_close(half(expanded).double(), rounded(layer, expanded), rtol=1e-5, atol=1e-5)


def test_weights_of_16_bits_stay_what_they_were() -> None:
    """bfloat16 has 8 significant bits; float16 keeps them all down to 2^-17, and ends at 65504."""
    for dtype in (torch.float16, torch.bfloat16):
        layer = nn.Linear(70, 33, bias=False)
        signs = torch.where(torch.rand(33, 70) < 0.5, -1.0, 1.0)
        layer.weight.data = (signs * 2.0 ** (-17 + 32 * torch.rand(33, 70))).to(dtype).float()
        half = HalfLinear(layer)
        assert torch.equal(half.weight, layer.weight) and half.bias is None


def test_the_bias_can_be_read_as_some_models_do() -> None:
    """Mamba's code adds that of a projection by itself."""
    layer = nn.Linear(300, 16)
    assert HalfLinear(layer).bias is layer.bias


def test_a_row_that_is_not_a_number_is_no_other_rows_matter() -> None:
    half, states = HalfLinear(nn.Linear(40, 30)), torch.randn(9, 40)
    states[4] = torch.nan
    assert half(states).isnan().any(dim=1).nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize(
    ("largest", "there_is_room"),
    [
        *((one, True) for one in (0.0, 1.0, 2.0**-14, 65504.0)),
        *((one, False) for one in (2.0**-15, 65536.0, torch.inf, torch.nan)),
    ],
)
def test_weights_that_rounding_would_change_by_more_stay_float32(largest: float, there_is_room: bool) -> None:
    layer = nn.Linear(300, 16)
    layer.weight.data.mul_(0)
    layer.weight.data[2, 3] = -largest
    assert fits(layer.weight) == there_is_room
    assert type(packed(layer, half=True)) is (HalfLinear if there_is_room else FLOAT32)
    if there_is_room:
        assert torch.equal(HalfLinear(layer).weight, layer.weight)


def test_only_float32_layers_are_halved_and_only_where_it_is_asked_for() -> None:
    kinds = [type(packed(nn.Linear(300, 16), half=half)) for half in (False, True)]
    assert kinds == [FLOAT32, HalfLinear]
    model = nn.Sequential(nn.Linear(300, 16), nn.Linear(300, 4, dtype=torch.float64), nn.LayerNorm(4))
    pack_linears(model, half=True)
    assert [type(one) for one in model] == [HalfLinear, nn.Linear, nn.LayerNorm]


def test_layers_whose_few_inputs_would_be_filled_up_to_more_memory_stay_float32() -> None:
    """The kernels fill 512 inputs and 16 outputs up with zeros."""
    assert HalfLinear.bytes_for(16, 512, torch.float32) == 2 * 16 * 512
    assert HalfLinear.bytes_for(17, 513, torch.float32) == 2 * 32 * 1024
    for inputs, kind in ((256, FLOAT32), (272, HalfLinear), (512, HalfLinear), (528, HalfLinear)):
        layer = packed(nn.Linear(inputs, 16), half=True)
        assert type(layer) is kind
        assert not isinstance(layer, HalfLinear) or layer.nbytes < 4 * 16 * inputs


@pytest.mark.parametrize("kind", [HalfLinear, FLOAT32])
def test_weights_are_unpacked_only_for_whoever_asks_for_their_numbers(kind: Any) -> None:
    layer, times = nn.Linear(300, 20), 0
    weight: Any = kind(layer).weight
    unpack = weight._unpack

    def counted() -> Tensor:
        nonlocal times
        times += 1
        found: Tensor = unpack()
        return found

    weight._unpack = counted
    assert (weight.dtype, weight.shape, weight.device) == (torch.float32, (20, 300), CPU)
    assert torch.ones(3).to(weight.dtype).dtype == torch.float32 and times == 0
    states = torch.randn(4, 300)
    with torch.inference_mode():
        torch.testing.assert_close(weight * 2, layer.weight * 2, rtol=2**-11, atol=2**-24)
        expected = product(states, layer.weight)
        torch.testing.assert_close(product(states, weight), expected, rtol=1e-2, atol=1e-2)
        assert type(weight[3]) is Tensor and times == 3


def test_a_compiled_layer_gives_what_it_gives_otherwise() -> None:
    model: Any = nn.Sequential(HalfLinear(nn.Linear(20, 30)), nn.ReLU(), HalfLinear(nn.Linear(30, 10)))
    program: Any = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.inference_mode():
        for rows in (2, 5):
            states = torch.randn(rows, 3, 20)
            torch.testing.assert_close(program(states), model(states), rtol=1e-6, atol=1e-6)
