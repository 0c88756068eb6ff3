"""Drafts of less reach than the formula: fewer tokens, a shorter window, a narrower support."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import LLM, Classifier, Engine, Formula
from arith.runtime.backbones.slots import SlotBackbone
from arith.runtime.speculation.drafts import FormulaDraft
from tests.runtime.reference import raw

PROMPTS = ["the rain in spain falls", "a b a b a b a b", "Once upon a time there was another", " x"]


def test_a_draft_over_fewer_tokens_changes_no_text(tiny_llama: str, new_llama: Callable[..., str]) -> None:
    """A row that has got a token which the draft's model doesn't know goes on without it."""
    larger = new_llama("larger_vocabulary", seed=61, tokenizer={"extra": ("<extra>", "<more>")})
    options: dict[str, Any] = {"max_new_tokens": 12, "seed": 5, "num_return_sequences": 4}
    formula = Formula("a + k*tokens(270)", a=raw(larger), k=0.0)
    draft = Formula("b", b=raw(tiny_llama))
    alone, drafted = Engine(formula), Engine(formula, speculate={"draft": draft, "tokens": 2})
    assert len(drafted.notes) == 1 and "`b` knows 270 of the 272 tokens" in drafted.notes[0]
    for k in (0.0, 3.0, 60.0):
        drafted.stats.reset()
        expected, found = (
            [one.token_ids for one in engine.generate(PROMPTS, params={"k": k}, **options)]
            for engine in (alone, drafted)
        )
        assert found == expected
        assert any(270 in tokens for tokens in expected) == (k > 0)
        assert bool(drafted.stats.drafted) == (k < 60), "all rows begin with the token that it lacks"


def test_a_draft_over_fewer_tokens_is_told_of_all(tiny_llama: str, new_llama: Callable[..., str]) -> None:
    """Formulas, bans and processors may name tokens that the draft's model lacks; it gives them -inf."""
    larger = new_llama("larger_vocabulary", seed=61, tokenizer={"extra": ("<extra>", "<more>")})

    def processor(_ids: Any, scores: Tensor) -> Tensor:
        return scores + torch.arange(272) / 100

    options: dict[str, Any] = {"max_new_tokens": 8, "logits_processor": [processor], "forbid": ["<more>"]}
    formula = Formula("a - 2*tokens(270)", a=LLM(larger, template="raw", vocab="strict"))
    expected = [one.token_ids for one in Engine(formula).generate(PROMPTS, **options)]
    for text in ("b", "b - 2*tokens(270)", "max(b, 0.5*b)"):
        draft = Formula(text, b=raw(tiny_llama))
        drafted = Engine(formula, speculate={"draft": draft, "tokens": 2})
        found = [one.token_ids for one in drafted.generate(PROMPTS, **options)]
        assert found == expected and drafted.stats.drafted


def test_a_row_that_waits_for_memory_comes_back_without_a_draft_that_can_not_read_it(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: str, new_llama: Callable[..., str]
) -> None:
    """Memory runs out once a text is longer than the window of the draft's model."""
    short = new_llama("short_window", seed=62, max_position_embeddings=40)
    formula = Formula("a - 99*tokens(257)", a=raw(tiny_llama))
    options: dict[str, Any] = {"max_new_tokens": 60, "seed": 2}
    expected = [one.token_ids for one in Engine(formula).generate(["abc", "x"], **options)]
    drafted = Engine(formula, speculate={"draft": Formula("b", b=raw(short)), "tokens": 2})
    step, failures = SlotBackbone.step, list[int]()

    def failing(self: SlotBackbone, lanes: Any, tokens: Any) -> Tensor:
        if not failures and max(len(lane.tokens) for lane in lanes) > 50:
            failures.append(1)
            raise torch.OutOfMemoryError("the test's memory is full")
        return step(self, lanes, tokens)

    monkeypatch.setattr(SlotBackbone, "step", failing)
    found = [one.token_ids for one in drafted.generate(["abc", "x"], **options)]
    assert found == expected
    assert failures and drafted.stats.lowered_to == 1 and drafted.stats.drafted


@pytest.mark.parametrize("draft", ["top_k(a, 5)", "top_p(a, 0.5)", "within(a, tokens(1, 2, 3))"])
def test_a_processor_that_leaves_a_draft_no_token_changes_no_text(draft: str, tiny_llama: str) -> None:
    def processor(_ids: Any, scores: Tensor) -> Tensor:
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, 97:100] = scores[:, 97:100]
        return allowed

    engine = Engine(Formula("a", a=raw(tiny_llama)))
    options: dict[str, Any] = {"max_new_tokens": 8, "seed": 3, "logits_processor": [processor]}
    expected = [one.token_ids for one in engine.generate(PROMPTS, **options)]
    found = engine.generate(PROMPTS, speculate={"draft": draft, "tokens": 2}, **options)
    assert [one.token_ids for one in found] == expected


@pytest.mark.parametrize("text", ["supersede(small, large)", "s = 2*small\nsupersede(s, large)"])
def test_what_supersedes_is_the_whole_meaning(
    text: str, tiny_llama: str, new_llama: Callable[..., str]
) -> None:
    """Of the vocabulary, the prompt and the results of the small operand nothing is left."""
    extra = {"extra": ("<extra>", "<more>")}
    large = LLM(new_llama("larger_vocabulary", seed=61, tokenizer=extra), template="raw", vocab="strict")
    small = LLM(tiny_llama, template="Some words before: {prompt}")
    alone = Engine(Formula("large", large=large))
    superseding = Engine(Formula(text, small=small, large=large))
    options: dict[str, Any] = {"max_new_tokens": 12, "seed": 5, "temperature": 2.0, "num_return_sequences": 4}
    expected, found = (engine.generate(PROMPTS, **options) for engine in (alone, superseding))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert any(token >= 270 for one in found for token in one.token_ids)
    assert superseding.stats.drafted
    assert found[0].logprobs.keys() == expected[0].logprobs.keys() == {"formula", "large"}
    assert alone.logprobs("abc", "").shape == superseding.logprobs("abc", "").shape == (1, 272)
    assert (
        alone.score("abc", "b", end=True)[0].token_ids == superseding.score("abc", "b", end=True)[0].token_ids
    )
    assert superseding.tokenizer.get_vocab() == alone.tokenizer.get_vocab()


def test_the_first_operand_is_that_of_what_supersedes(tiny_llama: str, tiny_llama_other: str) -> None:
    """Its prompt is what `prompt_length` and penalties are about, and it is the base of explanations."""
    small = LLM(tiny_llama, template="Some words before: {prompt}")
    operands = {"small": small, "large": raw(tiny_llama_other)}
    text = "{} + 0.05*prompt_length*tokens(97) - 0.001*small"
    alone, superseding = (
        Engine(Formula(text.format(one), **operands)) for one in ("large", "supersede(small, large)")
    )
    for engine in (alone, superseding):
        assert next(iter(engine.operands)) == "large" and engine.explain("abc", "x").base == "large"
    following = [engine.logprobs(PROMPTS, [""] * 4) for engine in (alone, superseding)]
    torch.testing.assert_close(*following)
    options: dict[str, Any] = {"max_new_tokens": 8, "seed": 3, "repetition_penalty": 3.0}
    expected, found = (engine.generate(PROMPTS, **options) for engine in (alone, superseding))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_a_definition_that_is_not_used_drafts_nothing(tiny_llama: str) -> None:
    engine = Engine(Formula("x = supersede(b, b)\nb", b=raw(tiny_llama)))
    engine.generate("abc", max_new_tokens=4)
    assert engine.stats.drafted == 0


def test_what_would_draft_and_does_not_is_not_loaded(tiny_llama: str, tiny_llama_other: str) -> None:
    formula = Formula("supersede(small, large)", small=raw(tiny_llama), large=raw(tiny_llama_other))
    for speculate, count in ((None, 2), (False, 1), ("prompt_lookup", 1)):
        assert len(Engine(formula, speculate=speculate).plan.backbones) == count
    text = "supersede(w*large + guide(elsewhere, on=large, k=3), large)"
    guided = Formula(text, large=raw(tiny_llama), elsewhere=Classifier("elsewhere", label=1))
    engine = Engine(guided, speculate=False)
    assert engine.generate("a", max_new_tokens=2) and engine.score("a", "b")
    assert not engine.plan.guides


def test_nothing_is_drafted_behind_a_token_that_the_draft_does_not_know(
    tiny_llama: str, new_llama: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a mixture another term may give it such tokens."""
    larger = new_llama("larger_vocabulary", seed=61, tokenizer={"extra": ("<extra>", "<more>")})
    formula = Formula(
        "mix(large, large + 9*tokens(270), 0.5)", large=LLM(larger, template="raw", vocab="strict")
    )
    draft = Formula("mix(small, uniform() + 9*tokens(270), 0.5)", small=raw(tiny_llama))
    draft_one, failures = FormulaDraft._draft, list[Exception]()

    def watched(self: FormulaDraft, *arguments: Any) -> None:
        try:
            draft_one(self, *arguments)
        except Exception as error:
            failures.append(error)
            raise

    monkeypatch.setattr(FormulaDraft, "_draft", watched)
    options: dict[str, Any] = {"max_new_tokens": 8, "seed": 5, "num_return_sequences": 4}
    expected = [one.token_ids for one in Engine(formula).generate(PROMPTS, **options)]
    drafted = Engine(formula, speculate={"draft": draft, "tokens": 4})
    assert [one.token_ids for one in drafted.generate(PROMPTS, **options)] == expected
    assert drafted.stats.drafted and any(270 in tokens for tokens in expected) and not failures
