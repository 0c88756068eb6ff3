"""The benchmarks run and say what they measured, on a tiny model. No figure of time is tested."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arith import LLM, Engine
from arith.operands.memory import MemoryEstimate
from arith.runtime.trial import Trial
from benchmarks import speed, subject
from benchmarks.attention import timed_attention
from benchmarks.comparisons.bandwidth import linear_bytes

MARKED = {  # with a mark to reach
    "floor": {"plain forwards", "plain forwards, our cache"},
    "generate": {"generate of N·B rows"},
    "products": {"bare matrix products"},
    "guidance": {"guidance"},
    "one-model": {"generate of B rows"},
    "adapters": {"the base alone", "the lanes without adapters"},
    "drafts": {"draft: base", "prompt look-up"},
    "small-drafts": {"small before large"},
    "padding": {"tokens run, of those not padding", "tokens run, of prompts and texts"},
    "growth": {"more rows", "more operands", "longer context"},
}


@pytest.fixture
def run(
    new_llama: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Prompts and system prompts are of one length for this tokenizer too."""
    model = new_llama("benchmarked", seed=91, max_position_embeddings=4096)
    monkeypatch.setattr(subject, "SYSTEMS", tuple(f"You are number {one}." for one in range(8)))
    monkeypatch.setattr(subject, "PROMPTS", tuple(f"Explain {one}." for one in range(10, 30)))

    def ran(*flags: str) -> tuple[list[str], dict[str, Any]]:
        monkeypatch.setattr(speed, "DEMO", model)
        monkeypatch.setattr(sys, "argv", ["speed", *flags])
        speed.main()
        *table, last = capsys.readouterr().out.splitlines()
        found: dict[str, Any] = json.loads(last)
        return table, found

    return ran


@pytest.mark.parametrize("name", MARKED)
def test_each_comparison_measures_what_has_a_mark(name: str, run: Any) -> None:
    table, found = run("--quick", "--tokens", "6", "--only", name)
    figures = found["figures"]
    assert len(table) == 2 + len(figures) and all(row.startswith("| ") for row in table)
    assert {one["measured"] for one in figures if one["target"] is not None} == MARKED[name]
    assert all(one["ours"] > 0 for one in figures if one["unit"] == "ms a step")
    for one in figures:
        if one["ours_spread"] is not None:
            spread = one["ours_spread"]
            assert spread["lowest"] <= spread["median"] == one["ours"] <= spread["highest"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_steps_are_compared_with_those_that_are_not(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler itself has tests of its own."""
    monkeypatch.setattr(torch, "compile", lambda function, **_options: function)
    _, found = run("--quick", "--tokens", "6", "--only", "compiling")
    measured = [(one["measured"], one["baseline"] is not None) for one in found["figures"]]
    assert measured == [("steps without compiling", True), ("making the programs", False)] * 2


def test_a_step_takes_no_less_than_its_forwards(run: Any) -> None:
    _, found = run("--quick", "--only", "floor")
    for one in found["figures"]:
        if one["measured"] == "plain forwards, our cache":
            assert one["ratio"]["lowest"] > 1


def test_what_needs_an_accelerator_says_so_in_the_last_line(run: Any) -> None:
    table, found = run("--shape", "7B")
    assert table == [] and found["figures"] == [] and "accelerator" in found["skipped"][0]


def test_attention_is_timed_wherever_a_model_calls_it(tiny_llama: str) -> None:
    trial = Trial(Engine(LLM(tiny_llama, template="raw"), compile="off"), ["abc"], 5)
    with timed_attention() as spent:
        trial.run(1)
    assert len(spent.prompts) == 2 and len(spent.steps) == 4 * 2, "of two layers, four steps"


@pytest.mark.parametrize("tied", [True, False])
def test_the_bandwidth_bound_counts_each_weight_that_a_step_reads_once(
    tied: bool, new_llama: Callable[..., str]
) -> None:
    """Two layers of width 32: queries and output 32 x 32, keys and values 16 x 32, three matrices of 64 x 32;
    and the output layer, which may be the embeddings."""
    model = new_llama(f"bound_{tied}", seed=92, tie_word_embeddings=tied)
    one = subject.Subject("a model", model, torch.device("cpu"), "float32", synthetic=False)
    weights = 2 * 32 * (2 * 32 + 2 * 16 + 3 * 64) + one.config().vocab_size * 32
    for half, dtype, size in (
        (False, torch.float32, 4),
        (True, torch.float32, 2),
        (False, torch.bfloat16, 2),
    ):
        assert linear_bytes(one, MemoryEstimate(1, 1, dtype, half)) == weights * size
