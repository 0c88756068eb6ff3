"""The script that makes the examples' guides: they fit its words, and what it makes is the same each time."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tests.methods.published import EXAMPLES

STEPS = 120


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_guides", EXAMPLES / "make_guides.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> Callable[..., torch.Tensor]:
    """A function from texts to the outputs `[texts, outputs]` of the guide of that name, shortly fitted."""
    monkeypatch.setattr(script, "GUIDES", folder)
    monkeypatch.setattr(script, "STEPS", STEPS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(script, f"make_{name}")(random.Random(0))
    new_tokenizer: Any = AutoTokenizer
    tokenizer = new_tokenizer.from_pretrained(folder / name)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder / name)

    @torch.no_grad()
    def outputs(*texts: str) -> torch.Tensor:
        found: torch.Tensor = model(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits
        return found

    return outputs


def test_the_classifier_tells_formal_words_from_informal_ones(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = made(script, tmp_path / "first", monkeypatch, "formality")
    config: Any = AutoConfig
    assert config.from_pretrained(tmp_path / "first" / "formality").id2label == {0: "informal", 1: "formal"}
    texts = ("Regarding the inquiry, I shall respectfully", "hey dude that's super cool")
    assert outputs(*texts).argmax(-1).tolist() == [1, 0]
    again = made(script, tmp_path / "second", monkeypatch, "formality")
    torch.testing.assert_close(again(*texts), outputs(*texts), rtol=0, atol=0)


def test_the_reward_is_higher_for_kind_words_than_for_unkind_ones(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm: str
) -> None:
    outputs = made(script, tmp_path, monkeypatch, "kindness")
    kind, unkind = outputs("a gentle smile and love", "a cruel war and hate").squeeze(-1).tolist()
    assert kind > unkind
