"""Log-probabilities in chunks, against log_softmax over all positions at once."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.scoring import log_probs
from trainers.scoring.log_probs import of_logits, token_log_probs

POSITIONS, HIDDEN, VOCABULARY = 13, 6, 11


def parts(bias: bool, frozen: bool) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=torch.float64)
    head.requires_grad_(not frozen)
    hidden = torch.randn(POSITIONS, HIDDEN, dtype=torch.float64, requires_grad=True)
    return head, hidden, torch.randint(0, VOCABULARY, (POSITIONS,))


def gradients(found: Tensor, hidden: Tensor, head: nn.Linear) -> list[Tensor]:
    """Those of a sum with other weights for each position."""
    weighted = (found * torch.linspace(-1, 2, POSITIONS)).sum()
    trained = [weight for weight in head.parameters() if weight.requires_grad]
    return list(torch.autograd.grad(weighted, [hidden, *trained]))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_values_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, frozen: bool, bias: bool, chunk: int
) -> None:
    monkeypatch.setattr(log_probs, "CHUNK_VALUES", chunk * VOCABULARY)
    head, hidden, targets = parts(bias, frozen)
    expected = head(hidden).log_softmax(dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    found = token_log_probs(hidden, targets, head, head.forward)
    assert torch.allclose(found, expected, atol=1e-12)
    for mine, theirs in zip(gradients(found, hidden, head), gradients(expected, hidden, head), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_without_gradients_there_are_none() -> None:
    head, hidden, targets = parts(False, True)
    with torch.no_grad():
        found = token_log_probs(hidden, targets, head, head.forward)
    assert not found.requires_grad
    assert torch.allclose(found, of_logits(head(hidden), targets))


@pytest.mark.parametrize("frozen", [True, False])
def test_no_tensor_of_all_logits_exists(monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    monkeypatch.setattr(log_probs, "CHUNK_VALUES", 2 * VOCABULARY)
    head, hidden, targets = parts(False, frozen)
    largest = 0

    mode: Any = torch.utils._python_dispatch.TorchDispatchMode

    class Watch(mode):  # type: ignore[misc]
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.shape[-1:] == (VOCABULARY,):
                of_weights = result.shape == (HIDDEN, VOCABULARY)
                largest = max(largest, 0 if of_weights else result.numel())
            return result

    with Watch():
        found = token_log_probs(hidden, targets, head, head.forward)
        gradients(found, hidden, head)
    assert largest == 2 * VOCABULARY


def test_no_positions_give_no_values() -> None:
    head, hidden, targets = parts(False, True)
    assert token_log_probs(hidden[:0], targets[:0], head, head.forward).shape == (0,)


def test_the_gradient_of_the_output_layer_in_a_half_is_that_of_one_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sum of many parts in bfloat16, which keeps 8 bits, would lose the later ones."""
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
    hidden = torch.randn(512, HIDDEN) + 1
    targets = torch.zeros(512, dtype=torch.int64)

    def gradient(chunk: int) -> Tensor:
        monkeypatch.setattr(log_probs, "CHUNK_VALUES", chunk * VOCABULARY)
        with torch.autocast("cpu", torch.bfloat16):
            total = token_log_probs(hidden, targets, head, head.forward).sum()
        return torch.autograd.grad(total, head.weight)[0]

    whole = gradient(512)
    for chunk in (1, 4):
        assert ((gradient(chunk) - whole).norm() / whole.norm()).item() < 0.004, chunk
