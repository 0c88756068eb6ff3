"""Hub models on a machine without a network: found in the cache, or refused at once."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.adapters import adapter_config
from arith.operands.hub import hub_reachable
from arith.operands.loading import load_config
from arith.operands.memory import estimate
from arith.operands.tokenizers import load_tokenizer

FROM_CACHE = """
import json, sys, torch
from arith.operands import LLM
from arith.operands.loading import load_model, end_ids
from arith.operands.memory import estimate
operand = LLM("org/tiny", dtype="float32")
model = load_model(operand.weights, torch.device("cpu"))
memory = estimate(operand.weights, ["org/lora"], torch.device("cuda"))
print(json.dumps([model.num_parameters(), sorted(end_ids(operand)), memory.weights_bytes]))
"""


def test_an_absent_hub_model_is_refused_at_once() -> None:
    started = time.perf_counter()
    for attempt in (load_config, adapter_config, load_tokenizer):
        with pytest.raises(OperandError) as refusal:
            if attempt is load_config:
                load_config(LLM("nobody/nothing").weights)
            elif attempt is adapter_config:
                adapter_config("nobody/nothing")
            else:
                load_tokenizer(LLM("nobody/nothing"))
        assert "of nobody/nothing: there is no such folder here, it isn't in this machine's hub cache" in str(
            refusal.value
        )
    assert time.perf_counter() - started < 5


def test_an_unanswered_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    import huggingface_hub.constants

    asked = []

    def unanswered(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.full_url)
        raise TimeoutError

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", unanswered)
    hub_reachable.cache_clear()
    try:
        assert not hub_reachable()
        assert not hub_reachable()
    finally:
        hub_reachable.cache_clear()
    assert len(asked) == 1


def test_what_is_not_on_this_machine_has_no_estimate(tiny_llama: str) -> None:
    assert estimate(LLM("nobody/nothing").weights, []) is None
    assert estimate(LLM(tiny_llama).weights, ["nobody/adapter"]) is None


def test_a_cached_hub_model_is_used_without_the_hub(tiny_llama: str, lora_a: str, tmp_path: Path) -> None:
    """Count: 2 layers of (32·32 q, 16·32 k, 16·32 v, 32·32 o, 3·32·64 mlp, 2·32 norms), 32, 2·270·32."""
    for name, folder in (("tiny", tiny_llama), ("lora", lora_a)):
        repository = tmp_path / "hub" / f"models--org--{name}"
        shutil.copytree(folder, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
    finished = subprocess.run(
        [sys.executable, "-c", FROM_CACHE],
        env={
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": ":".join(p for p in sys.path if p),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    parameters = 2 * (1024 + 512 + 512 + 1024 + 3 * 2048 + 64) + 32 + 2 * 270 * 32
    lora = 2 * (4 * 32 + 4 * 32 + 4 * 32 + 4 * 16)
    assert json.loads(finished.stdout) == [parameters, [257], 4 * (parameters + lora)]
    assert finished.stderr == ""
