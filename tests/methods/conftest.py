"""Random values for the equations, and tiny models in place of those that the examples name."""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.methods.published import Draw


@pytest.fixture
def draw() -> Draw:
    return Draw(seed=0)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_deep_llama(new_llama: Callable[..., str]) -> str:
    """As deep as the demo model, whose blocks some examples name; its window holds long system prompts."""
    return new_llama("tiny_deep_llama", seed=21, num_hidden_layers=30, max_position_embeddings=2048)
