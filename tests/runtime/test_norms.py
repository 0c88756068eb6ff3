"""Quicker RMS norms: where they give the same, and nowhere else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from arith.operands.llm import LLM
from arith.operands.loading import load_model
from arith.operands.packed_linear import PackedLinear
from arith.runtime.backbones.norms import QuickRMSNorm, use_quick_norms

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def drawn(norm: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    nn.init.normal_(norm.weight, mean=0.7)
    return norm.to(dtype)


def replaced(norm: nn.Module) -> nn.Module:
    """What stands in its place afterwards."""
    model = nn.ModuleDict({"inner": nn.ModuleDict({"norm": norm})})
    use_quick_norms(model)
    inner: Any = model["inner"]
    found: nn.Module = inner["norm"]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_of_llama_becomes_a_quick_one_with_the_same_weight(dtype: torch.dtype) -> None:
    norm = drawn(LlamaRMSNorm(48), dtype)
    found = replaced(norm)
    assert isinstance(found, QuickRMSNorm)
    assert found.weight.data_ptr() == norm.weight.data_ptr()
    states = torch.randn(5, 3, 48).to(dtype)
    whole = LlamaRMSNorm(48)
    whole.weight.data = norm.weight.data.float()
    unit = torch.finfo(dtype).eps
    with torch.inference_mode():
        torch.testing.assert_close(found(states).float(), whole(states.float()), rtol=2 * unit, atol=2 * unit)
        assert found(states).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_are_rounded_once_and_weights_not_at_all(dtype: torch.dtype) -> None:
    norm = drawn(LlamaRMSNorm(576), dtype)
    states = torch.randn(20, 576).to(dtype)
    wide = states.double()
    with torch.inference_mode():
        scale = (wide.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        exact = wide * scale * norm.weight.double()
        found = replaced(norm)(states).double()
    normal = exact.abs() > 1e-3
    error = ((found - exact) / exact)[normal].abs().max()
    assert float(error) <= 0.5001 * torch.finfo(dtype).eps


def test_the_epsilon_is_the_norms_own() -> None:
    norm = drawn(LlamaRMSNorm(16, eps=0.3))
    states = torch.full((1, 16), 0.1)
    found = replaced(norm)
    assert isinstance(found, QuickRMSNorm)
    with torch.inference_mode():
        torch.testing.assert_close(found(states), norm(states))


class CentredRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        result: Tensor = super().forward(hidden_states - hidden_states.mean(-1, keepdim=True))
        return result


class OtherEpsilonRMSNorm(LlamaRMSNorm):
    """Says one epsilon and uses another."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        used = LlamaRMSNorm(len(self.weight), eps=1e-5)
        used.weight.data = self.weight.data
        result: Tensor = used(hidden_states)
        return result


class WeightlessRMSNorm(LlamaRMSNorm):
    """Has a weight, and uses none."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return nn.functional.rms_norm(hidden_states, hidden_states.shape[-1:], eps=self.variance_epsilon)


def test_a_norm_that_does_not_use_its_weight_stays() -> None:
    norm = WeightlessRMSNorm(16)  # of ones, with which a trial of that width shows nothing
    assert replaced(norm) is norm


class GatedRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        result: Tensor = super().forward(hidden_states * gate)
        return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.01, 1.0])
@pytest.mark.parametrize("kind", [GemmaRMSNorm, GatedRMSNorm, CentredRMSNorm, OtherEpsilonRMSNorm])
def test_norms_that_give_something_else_stay(kind: Any, size: float, dtype: torch.dtype) -> None:
    """Whatever the size of their weights."""
    norm = kind(1024)
    norm.weight.data = (size * torch.randn(1024, generator=torch.Generator().manual_seed(2))).to(dtype)
    assert replaced(norm) is norm


@pytest.mark.parametrize("norm", [nn.LayerNorm(48), nn.RMSNorm(48)])
def test_torchs_own_norms_stay(norm: nn.Module) -> None:
    assert replaced(norm) is norm


def test_weights_of_packed_layers_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be copied, a whole output layer among them."""

    def fail(_layer: PackedLinear) -> Tensor:
        raise AssertionError("looked at")

    layer = PackedLinear.__new__(PackedLinear)
    nn.Module.__init__(layer)
    monkeypatch.setattr(PackedLinear, "weight", property(fail))
    assert replaced(layer) is layer


def test_norms_with_hooks_that_move_their_weights_stay() -> None:
    norm: Any = LlamaRMSNorm(8)
    norm._hf_hook = object()
    assert replaced(norm) is norm


def test_the_logits_of_a_llama_stay(tiny_llama: str) -> None:
    model = load_model(LLM(tiny_llama, dtype="float32").weights, torch.device("cpu"))
    ids = torch.arange(3, 20)[None]
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        use_quick_norms(model)
        assert torch.equal(model(input_ids=ids).logits, expected)
    kinds = [type(one) for one in model.modules() if type(one).__name__.endswith("RMSNorm")]
    assert kinds == [QuickRMSNorm] * (2 * model.config.num_hidden_layers + 1)
