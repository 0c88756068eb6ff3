"""Packed and blocked linear layers: the numbers of ordinary ones, in whatever shape and dtype."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from arith.operands import LLM, blocked_linear
from arith.operands.adapters import attach
from arith.operands.blocked_linear import BLOCK, BlockedLinear, computes
from arith.operands.loading import load_model
from arith.operands.packed_linear import PackedLinear, packs, round_rows
from arith.operands.packing import pack_linears, packed, packed_kind

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if packs(CPU, dtype)]
pytestmark = pytest.mark.skipif(not DTYPES, reason="this processor has no such kernels")
needs_mkl = pytest.mark.skipif(not computes(torch.float32), reason="torch was built without MKL")
KINDS: list[tuple[Any, torch.dtype]] = [(PackedLinear, dtype) for dtype in DTYPES]
if computes(torch.float32):
    KINDS.append((BlockedLinear, torch.float32))


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 33, 3 * BLOCK])
@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (2, 5), (7, 33), (0,), (2, 0), (1, 3, 5), ()])
def test_such_a_layer_gives_what_the_plain_one_gives(
    kind: Any, dtype: torch.dtype, bias: bool, outputs: int, shape: tuple[int, ...]
) -> None:
    linear = nn.Linear(70, outputs, bias=bias, dtype=dtype)
    states = torch.randn(*shape, 70, dtype=dtype)
    with torch.inference_mode():
        found, expected = kind(linear)(states), linear(states)
    assert found.dtype == dtype and found.is_contiguous()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", [kind for kind, dtype in KINDS if dtype == torch.float32])
def test_states_in_any_memory_layout_are_read_as_they_are(kind: Any) -> None:
    linear = nn.Linear(6, 4)
    packed = kind(linear)
    with torch.inference_mode():
        for states in (torch.randn(2, 6, 17).transpose(1, 2), torch.randn(5, 12)[:, ::2], torch.ones(1, 6)):
            torch.testing.assert_close(packed(states), linear(states), rtol=1e-5, atol=1e-5)
        expanded = torch.randn(1, 6).expand(19, 6)
        torch.testing.assert_close(packed(expanded), linear(expanded), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_the_weights_can_still_be_looked_at(kind: Any, dtype: torch.dtype) -> None:
    linear = nn.Linear(70, 33, dtype=dtype)
    assert torch.equal(kind(linear).weight, linear.weight)


@needs_mkl
def test_weights_in_blocks_take_the_memory_of_whole_blocks_and_their_layers_can_be_copied() -> None:
    layer = BlockedLinear(nn.Linear(70, BLOCK + 1))
    states = torch.randn(5, 70)
    assert layer.blocks.nbytes == BlockedLinear.bytes_for(BLOCK + 1, 70, torch.float32) == 2 * BLOCK * 70 * 4
    assert torch.equal(copy.deepcopy(layer)(states), layer(states))


@needs_mkl
@pytest.mark.parametrize("outputs", [1, 5 * BLOCK, 5 * BLOCK + 7])
@pytest.mark.parametrize("bias", [True, False])
def test_many_rows_are_multiplied_by_the_whole_matrix(outputs: int, bias: bool) -> None:
    linear = nn.Linear(70, outputs, bias=bias)
    states = torch.randn(2, blocked_linear._MANY, 70)
    with torch.inference_mode():
        assert torch.equal(BlockedLinear(linear)(states), linear(states))


@needs_mkl
@pytest.mark.parametrize(
    ("outputs", "inputs", "blocked"),
    [(BLOCK, 8, False), (BLOCK + 1, 8, True), (2**13, 2**10, True), (2**13, 2**10 + 1, False)],
)
def test_a_single_block_and_large_matrices_are_packed(outputs: int, inputs: int, blocked: bool) -> None:
    layer = packed(nn.Linear(inputs, outputs), half=False)
    kind = packed_kind(torch.Size([outputs, inputs]), torch.float32, half=False)
    assert type(layer) is kind is (BlockedLinear if blocked else PackedLinear)
    size = kind.bytes_for(outputs, inputs, torch.float32)
    assert size == (layer.blocks.nbytes if isinstance(layer, BlockedLinear) else 4 * outputs * inputs)


@pytest.mark.parametrize("kind", [kind for kind, dtype in KINDS if dtype == torch.float32])
def test_a_row_that_is_not_a_number_is_no_other_rows_matter(kind: Any) -> None:
    states = torch.randn(9, 40)
    states[4] = torch.nan
    found = kind(nn.Linear(40, 30))(states)
    assert found.isnan().any(dim=1).nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize("kind", [kind for kind, dtype in KINDS if dtype == torch.float32])
def test_a_compiled_layer_gives_what_it_gives_otherwise(kind: Any) -> None:
    model: Any = nn.Sequential(kind(nn.Linear(20, 50)), nn.ReLU(), kind(nn.Linear(50, 10, bias=False)))
    program: Any = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.inference_mode():
        for shape in ((2,), (5,), (2, 3)):
            states = torch.randn(*shape, 20)
            torch.testing.assert_close(program(states), model(states))


def test_rows_are_rounded_to_few_numbers_and_by_a_ninth_at_most() -> None:
    rounded = [round_rows(rows) for rows in range(1, 4097)]
    assert all(rows <= found <= rows * 9 / 8 for rows, found in enumerate(rounded, start=1))
    assert rounded[:16] == list(range(1, 17))
    assert len(set(rounded)) == 16 + 8 * 8
    assert all(round_rows(found) == found for found in rounded)


def test_outputs_are_dealt_out_evenly_to_the_threads_where_few_more_are_needed_for_it() -> None:
    threads = torch.get_num_threads()
    for outputs in range(1, 9000, 61):
        filled, blocks = outputs + PackedLinear.filler(outputs), -(-outputs // 64)
        even = -(-blocks // threads) * threads
        wanted = even if blocks < even <= blocks * 17 / 16 else 0
        assert filled == (wanted * 64 or outputs)


def test_a_models_linear_layers_are_packed_and_its_logits_stay(tiny_llama: str) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    ids = torch.arange(3, 20)[None]
    with torch.inference_mode():
        expected = model(ids).logits
        pack_linears(model)
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any(type(module) is nn.Linear for module in model.modules())


def test_layers_of_other_kinds_dtypes_and_devices_stay_as_they_are() -> None:
    class Scaled(nn.Linear):
        pass

    hooked = nn.Linear(4, 4)
    hooked._hf_hook = object()  # type: ignore[assignment]
    kept = [Scaled(4, 4), nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 4, device="meta"), hooked]
    model = nn.Sequential(*kept)
    pack_linears(model)
    assert [*model] == kept


def test_layers_inside_those_of_peft_stay_as_they_are(tiny_llama: str, lora_dora: str) -> None:
    model, _ = attach(load_model(LLM(tiny_llama).weights, CPU), [lora_dora])
    pack_linears(model)
    adapted = [module for place, module in model.named_modules() if place.endswith("base_layer")]
    assert adapted and all(type(module) is nn.Linear for module in adapted)
    assert any(isinstance(module, PackedLinear | BlockedLinear) for module in model.modules())
