"""Tiny models in float64, so that a search meets no rounding, and data for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from arith import LLM, Classifier, Engine, Formula
from arith.runtime.likelihood import Likelihood

Rows = list[dict[str, Any]]
TEXTS: Rows = [
    {"prompt": "the rain in spain", "completion": " falls on the plain"},
    {"prompt": "a", "completion": "re"},
    {"prompt": "Once upon a time there was another", "completion": " inner ring, then none"},
    {"prompt": "on", "completion": ""},
]
PAIRS: Rows = [
    {"prompt": "the rain in spain", "chosen": " falls", "rejected": " is another"},
    {"prompt": "a", "chosen": "re", "rejected": "n"},
    {"prompt": "on", "chosen": "e", "rejected": "e there"},
    {"prompt": "the", "chosen": " inner ring", "rejected": " in"},
]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def operands(
    tiny_llama: str, tiny_llama_other: str, lora_a: str, tiny_classifier: str
) -> dict[str, LLM | Classifier]:
    settings: dict[str, Any] = {"template": "raw", "dtype": "float64"}
    return {
        "base": LLM(tiny_llama, **settings),
        "arm": LLM(tiny_llama, adapter=lora_a, **settings),
        "other": LLM(tiny_llama_other, **settings),
        "rude": Classifier(tiny_classifier, label="rude", dtype="float64"),
    }


@pytest.fixture
def engine(operands: dict[str, LLM | Classifier]) -> Callable[..., Engine]:
    """`engine(text, a=…)`: over those of the operands that the formula names."""

    def build(text: str, **params: float) -> Engine:
        used = {name: one for name, one in operands.items() if name in text}
        return Engine(Formula(text, **used, **params))

    return build


def likelihood_of(engine: Engine, names: list[str], values: dict[str, float], rows: Rows) -> Likelihood:
    return Likelihood(
        engine,
        names,
        values,
        [row["prompt"] for row in rows],
        [row["completion"] for row in rows],
        [f"row {number}" for number, _ in enumerate(rows, 1)],
        lambda text: None,
    )
