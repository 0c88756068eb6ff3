"""A step waits for its device once: everything that the host needs to know comes in one transfer."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from arith import LLM, Engine, Formula
from arith.runtime.fusion import Fusion
from arith.runtime.generation import Generation

aten = torch.ops.aten
WAITING = (
    aten.item.default,
    aten.is_nonzero.default,
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.index.Tensor,
)
PROMPTS = ["ab", "the rain in spain", "x", "the hen"]
OPTIONS: dict[str, Any] = {"max_new_tokens": 6, "seed": 3}


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that can't be done before the device has come to an end, and lists of tensors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: Counter[str] = Counter()
        listed = torch.Tensor.tolist

        def tolist(tensor: torch.Tensor) -> Any:
            self.count["tolist"] += 1
            return listed(tensor)

        monkeypatch.setattr(torch.Tensor, "tolist", tolist)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = function is aten.index.Tensor and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if function in WAITING and (function is not aten.index.Tensor or by_mask):
            self.count[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """What each step waits for, but for the last, in which rows end."""
    found: list[Counter[str]] = []
    waits = Waits(monkeypatch)
    step = Generation.step

    def counted(self: Generation) -> Any:
        waits.count = Counter()
        with waits:
            rows = step(self)
        if all(row.finish_reason is None for row in rows):
            found.append(waits.count)
        return rows

    monkeypatch.setattr(Generation, "step", counted)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "a + 0.5*b",
        "max(a, b)",
        "where(p(a) > 0.01, a, b)",
        "within(a + b, min_p(b, 0.01))",
        "a + 0.1*log_likelihood(b)*b",
        "(0.5 + 0.1*t)*a + 0.2*layer(b, 1)",
    ],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0}, {"top_k": 7, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}],
    ids=["sampled", "greedy", "warped"],
)
def test_a_step_waits_once_for_all_rows_and_operands(
    text: str, options: dict[str, Any], steps: list[Counter[str]], tiny_llama: str, tiny_llama_other: str
) -> None:
    formula = Formula(text, a=LLM(tiny_llama), b=LLM(tiny_llama_other))
    Engine(formula).generate(PROMPTS, **{**OPTIONS, **options})
    assert len(steps) >= 2
    assert all(step == {"tolist": 1} for step in steps), steps


def test_a_step_waits_for_nothing_more_where_tokens_are_banned(
    steps: list[Counter[str]], tiny_llama: str, tiny_llama_other: str
) -> None:
    """A guard that rejects every other text."""
    formula = Formula("a + 0.5*b", a=LLM(tiny_llama), b=LLM(tiny_llama_other))
    engine = Engine(formula)
    forbid = [lambda text, ended: 0 if len(text) % 2 and not ended else None]
    engine.generate(PROMPTS, forbid=forbid, **OPTIONS)
    assert engine.stats.rewinds and all(step == {"tolist": 1} for step in steps), steps


@pytest.mark.parametrize("speculate", ["b", "prompt_lookup"])
def test_a_step_waits_once_for_each_drafted_token_and_once_for_all_that_are_checked(
    speculate: str, steps: list[Counter[str]], tiny_llama: str, tiny_llama_other: str
) -> None:
    formula = Formula("a + 0.5*b", a=LLM(tiny_llama), b=LLM(tiny_llama_other))
    Engine(formula).generate(PROMPTS, speculate={"draft": speculate, "tokens": 2}, **OPTIONS)
    assert steps
    most = 3 if speculate == "b" else 1
    assert all(set(step) == {"tolist"} and step["tolist"] <= most for step in steps), steps


def test_a_row_in_doubt_is_computed_exactly_beside_others(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: str, tiny_llama_other: str
) -> None:
    """Weight 0 times -inf has no value unless the term is kept out; the weight follows from the step, so the
    operand runs."""
    spread, settled, rows = Fusion.spread, Fusion.settled, list[list[int]]()

    def excluding(self: Fusion, logits: Any, count: int) -> Any:
        found = spread(self, logits, count)
        leaf = (self.operands["b"], None)
        found[leaf] = found[leaf].clone()
        found[leaf][0, :9] = -torch.inf
        return found

    def noting(self: Fusion, fused: Any, doubtful: Any, *others: Any) -> Any:
        rows.append(list(doubtful))
        return settled(self, fused, doubtful, *others)

    expected = Engine(Formula("a", a=LLM(tiny_llama))).generate(PROMPTS, **OPTIONS)
    monkeypatch.setattr(Fusion, "spread", excluding)
    monkeypatch.setattr(Fusion, "settled", noting)
    formula = Formula("a + where(t > 99, 1, 0)*b", a=LLM(tiny_llama), b=LLM(tiny_llama_other))
    found = Engine(formula).generate(PROMPTS, **OPTIONS)
    assert rows == [[0]] * OPTIONS["max_new_tokens"]
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs["formula"] == pytest.approx(other.logprobs["formula"], abs=1e-4)
