"""Drafts change how fast a text comes, and nothing of it."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from arith import Classifier, Engine, Formula
from arith.runtime.speculation.drafts import PromptLookup
from tests.runtime.reference import plain, raw
from tests.sequence_models import save_bert_classifier

PROMPTS = ["the rain in spain falls", "a b a b a b a b", "Once upon a time there was another", " x"]
FORMULAS = [
    "base + 0.5*arm",
    "max(base, arm)",
    "log(0.5*p(base) + 0.5*p(arm))",
    "where(t < 4, base + 0*arm, arm)",
    "base + 0.01*log_likelihood(arm)*arm",
    "base - 0.3*layer(base, 1) + 0.2*arm",
]
DRAFTS: list[Any] = [
    {"draft": "base", "tokens": 3},
    {"draft": "arm", "tokens": 2},
    {"draft": "0.7*base + 0.1*arm", "tokens": 5},
    {"draft": "base", "tokens": "auto"},
    {"lazy": ["arm"], "tokens": 4},
    "prompt_lookup",
]
OPTIONS: list[dict[str, Any]] = [
    {"seed": 1},
    {"temperature": 0},
    {"temperature": 0.3, "top_k": 20, "repetition_penalty": 1.3, "seed": 4},
]


def engine_of(text: str, tiny_llama: str, tiny_llama_other: str, **further: Any) -> Engine:
    operands: dict[str, Any] = {"base": raw(tiny_llama), "arm": raw(tiny_llama_other), **further}
    used = {name: one for name, one in operands.items() if name in Formula(text).operands}
    return Engine(Formula(text, **used), max_rows=3)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_draft_changes_nothing_of_what_is_written(
    text: str, tiny_llama: str, tiny_llama_other: str
) -> None:
    engine = engine_of(text, tiny_llama, tiny_llama_other)
    for options, draft in product(OPTIONS, DRAFTS):
        wanted = {"max_new_tokens": 13, "num_return_sequences": 2, **options}
        expected = engine.generate(PROMPTS, **wanted)
        found = engine.generate(PROMPTS, speculate=draft, **wanted)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected], (options, draft)
        assert [one.finish_reason for one in found] == [one.finish_reason for one in expected]
        for one, other in zip(found, expected, strict=True):
            for name in ("formula", "base", "arm"):
                assert one.logprobs[name] == pytest.approx(other.logprobs[name], abs=1e-3, nan_ok=True)


def test_adapters_of_one_backbone_draft_for_each_other(tiny_llama: str, lora_a: str, lora_b: str) -> None:
    engine = Engine(
        Formula(
            "base + 0.5*a - 0.3*b", base=raw(tiny_llama), a=raw(tiny_llama, lora_a), b=raw(tiny_llama, lora_b)
        )
    )
    expected = engine.generate(PROMPTS, max_new_tokens=12, seed=2)
    for draft in ({"draft": "base", "tokens": 3}, {"draft": "base + 0.5*a", "tokens": 2}, {"lazy": "b"}):
        found = engine.generate(PROMPTS, max_new_tokens=12, seed=2, speculate=draft)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]


def test_a_draft_that_agrees_is_accepted_whole(tiny_llama: str, tiny_llama_other: str) -> None:
    """Tokens come 1 + 4 + 4 + 4: the first one with the prompt, and then four for each forward of the arm."""
    engine = engine_of("base + 0.000001*arm", tiny_llama, tiny_llama_other)
    engine.stats.reset()
    result = engine.generate("abc", max_new_tokens=13, seed=5, speculate={"draft": "base", "tokens": 4})[0]
    assert len(result.token_ids) == 13 and result.finish_reason == "length"
    stats = engine.stats
    assert (stats.drafted, stats.accepted) == (stats.drafted, stats.drafted)
    assert stats.forwards_per_token == pytest.approx(stats.speculation.checks / 12)
    assert stats[tiny_llama_other].forwards == 1 + stats.speculation.checks
    assert stats.speculation.checks <= 4


def test_a_lazy_operand_is_run_once_for_several_tokens(tiny_llama: str, tiny_llama_other: str) -> None:
    """It changes nothing here, so every token drafted without it stands."""
    engine = engine_of("base + 0.000001*arm", tiny_llama, tiny_llama_other)
    engine.stats.reset()
    drafting = {"lazy": "arm", "tokens": 4}
    result = engine.generate("abc", max_new_tokens=13, seed=5, speculate=drafting)[0]
    assert len(result.token_ids) == 13
    stats = engine.stats
    assert stats[tiny_llama_other].forwards == 1 + stats.speculation.checks <= 5
    assert stats[tiny_llama_other].tokens_run == len(plain(tiny_llama).raw("abc")) + 12


def test_no_draft_counts_one_forward_a_token(tiny_llama: str) -> None:
    engine = Engine(raw(tiny_llama))
    engine.generate(PROMPTS, max_new_tokens=6, seed=5)
    assert engine.stats.drafted == 0 and engine.stats.forwards_per_token == 1


def test_what_is_superseded_drafts_by_itself(tiny_llama: str, tiny_llama_other: str) -> None:
    engine = engine_of("supersede(base, arm) + 0*base", tiny_llama, tiny_llama_other)
    alone = Engine(raw(tiny_llama_other)).generate(PROMPTS, max_new_tokens=9, seed=3)
    found = engine.generate(PROMPTS, max_new_tokens=9, seed=3)
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]
    assert engine.stats.drafted > 0
    engine.stats.reset()
    engine.generate(PROMPTS[:1], max_new_tokens=9, seed=3, speculate={"tokens": 1})
    assert 0 < engine.stats.drafted <= engine.stats.speculation.checks, "one at a time"
    assert f"{engine.stats.drafted} tokens drafted" in repr(engine.stats)
    again = engine.generate(PROMPTS[:1], max_new_tokens=9, seed=3, speculate={})
    assert again[0].token_ids == alone[0].token_ids
    engine.stats.reset()
    engine.generate(PROMPTS, max_new_tokens=9, seed=3, speculate=False)
    assert engine.stats.drafted == 0


def test_another_model_drafts_when_the_engine_is_told(tiny_llama: str, tiny_llama_other: str) -> None:
    small = Formula("w*small", small=raw(tiny_llama_other), w=0.8)
    engine = Engine(raw(tiny_llama), speculate={"draft": small, "tokens": 2})
    expected = Engine(raw(tiny_llama)).generate(PROMPTS, max_new_tokens=8, seed=3)
    found = engine.generate(PROMPTS, max_new_tokens=8, seed=3)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert engine.stats.drafted > 0 and set(found[0].logprobs) == {"formula", "operand1"}


def test_rows_that_end_inside_a_draft_end_where_they_would(tiny_llama: str, tiny_llama_other: str) -> None:
    engine = engine_of("base + 0.000001*arm", tiny_llama, tiny_llama_other)
    plain_run = engine.generate(PROMPTS, max_new_tokens=40, seed=9)
    text = plain_run[0].text
    options: dict[str, Any] = {"max_new_tokens": 40, "seed": 9, "stop_strings": (text[3:5],)}
    expected = engine.generate(PROMPTS, **options)
    found = engine.generate(PROMPTS, **options, speculate={"draft": "base", "tokens": 8})
    assert expected[0].finish_reason == "stop_string"
    assert [(one.token_ids, one.finish_reason) for one in found] == [
        (one.token_ids, one.finish_reason) for one in expected
    ]
    pieces = list(engine.stream(PROMPTS, **options, speculate={"draft": "base", "tokens": 8}))
    for index, one in enumerate(expected):
        assert "".join(piece.text for piece in pieces if piece.index == index) == one.text
        assert [t for piece in pieces if piece.index == index for t in piece.token_ids] == one.token_ids


def test_guides_and_criteria_see_each_step_of_a_draft(
    tiny_llama: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    formal = Classifier(save_bert_classifier(tmp_path_factory.mktemp("bert")), "formal")
    engine = Engine(Formula("base + 2*guide(f, on=base, k=5)", base=raw(tiny_llama), f=formal))
    lengths: list[int] = []

    def criterion(input_ids: torch.Tensor, scores: Any) -> bool:
        lengths.append(input_ids.shape[1])
        return input_ids.shape[1] >= 12

    options: dict[str, Any] = {"max_new_tokens": 30, "seed": 2, "stopping_criteria": [criterion]}
    expected = engine.generate("abc", **options)[0]
    before, lengths[:] = list(lengths), []
    found = engine.generate("abc", **options, speculate={"draft": "base", "tokens": 4})[0]
    assert (found.token_ids, found.finish_reason) == (expected.token_ids, expected.finish_reason)
    assert lengths == before


def test_drafts_stay_inside_the_context_window(new_llama: Callable[..., str], tiny_llama: str) -> None:
    short = new_llama("tiny_window_drafted", seed=27, max_position_embeddings=24)
    engine = Engine(Formula("a + 0.1*b", a=raw(short), b=raw(tiny_llama)))
    drafting = {"draft": "a", "tokens": 6}
    for length in (20, 22, 23):
        expected = engine.generate("x" * length, max_new_tokens=9, seed=1)[0]
        found = engine.generate("x" * length, max_new_tokens=9, seed=1, speculate=drafting)[0]
        assert (found.token_ids, found.finish_reason) == (expected.token_ids, expected.finish_reason)


def test_text_that_repeats_is_looked_up(tiny_llama: str) -> None:
    engine = Engine(raw(tiny_llama))
    options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0}
    expected = engine.generate("abcabcabc", **options)[0]
    found = engine.generate("abcabcabc", **options, speculate={"draft": "prompt_lookup", "tokens": 3})[0]
    assert found.token_ids == expected.token_ids and engine.stats.drafted > 0


def test_a_place_behind_a_wrong_token_where_nothing_can_be_said_ends_no_call(
    tiny_llama: str, tiny_llama_other: str
) -> None:
    """A caller's processor that knows the right texts alone fails at what was drafted wrongly."""
    engine = engine_of("base + 0.5*arm", tiny_llama, tiny_llama_other)
    options: dict[str, Any] = {"max_new_tokens": 12, "seed": 5}
    expected = engine.generate(PROMPTS[1:2], **options)[0].token_ids
    asked: list[int] = []

    def processor(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        written = input_ids[0].tolist()[start:]
        if written != expected[: len(written)]:
            asked.append(len(written))
            raise KeyError("no state for this text")
        return scores

    start = len(engine.runner.rows.to_generate(PROMPTS[1:2], None, 1, 0)[0].prompt_ids[raw(tiny_llama)])
    for draft in ("prompt_lookup", {"draft": "base", "tokens": 3}):
        found = engine.generate(PROMPTS[1:2], speculate=draft, logits_processor=[processor], **options)[0]
        assert found.token_ids == expected
    assert asked, "wrong tokens were checked"


def test_a_draft_without_a_value_drafts_nothing(tiny_llama: str, tiny_llama_other: str) -> None:
    engine = engine_of("base + 0.5*arm", tiny_llama, tiny_llama_other)
    draft = {"draft": "within(base, tokens(3)) + within(arm, tokens(4))", "tokens": 3}
    expected = engine.generate(PROMPTS, max_new_tokens=8, seed=5)
    found = engine.generate(PROMPTS, max_new_tokens=8, seed=5, speculate=draft)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert engine.stats.drafted == 0


def test_a_row_too_long_for_what_drafts_is_not_drafted_by_nothing(
    new_llama: Callable[..., str], tiny_llama: str
) -> None:
    short = new_llama("short", seed=77, max_position_embeddings=16)
    engine = Engine(Formula("base", base=raw(tiny_llama)), speculate={"draft": raw(short), "tokens": 4})
    engine.generate(["word " * 30, "a"], max_new_tokens=8, seed=5)
    drafted = engine.stats.drafted
    engine.stats.reset()
    engine.generate(["a"], max_new_tokens=8, seed=5)
    assert drafted == engine.stats.drafted > 0


def test_tokens_beyond_the_common_vocabulary_are_not_looked_up(tiny_llama: str) -> None:
    lookup = PromptLookup(raw(tiny_llama), vocabulary=100)
    row = Engine(raw(tiny_llama)).runner.rows.to_generate("a", None, 1, 0)[0]
    row.prompt_ids = {raw(tiny_llama): (7, 8, 9, 200, 9, 7, 8)}
    proposal = lookup._continuation(row, 5)
    assert proposal.tokens == [9] and len(proposal.grades) == 1


def test_what_a_call_has_learnt_holds_for_the_next(tiny_llama: str, tiny_llama_other: str) -> None:
    """A new pace drafts four tokens in its first round; one that has learnt that none is right, none."""
    options: dict[str, Any] = {"max_new_tokens": 6, "seed": 5, "num_return_sequences": 2}
    wrong = {"draft": "-8*base"}
    engine = engine_of("base + 0*arm", tiny_llama, tiny_llama_other)
    engine.generate(PROMPTS, speculate=wrong, **options)
    first = engine.stats.drafted
    for _ in range(12):
        engine.stats.reset()
        engine.generate(PROMPTS, speculate=wrong, **options)
    assert engine.stats.speculation.off and engine.stats.drafted < first / 2
    engine.generate(PROMPTS, **options)
    assert "left off" not in str(engine.stats.speculation), "the last call left nothing off"
    engine.stats.reset()
    engine.generate(PROMPTS, speculate={"draft": "-7*base"}, **options)
    assert engine.stats.drafted == first, "another draft has a pace of its own"


def test_an_operand_drafts_under_its_own_name_or_a_new_one(tiny_llama: str, tiny_llama_other: str) -> None:
    large, small = raw(tiny_llama), raw(tiny_llama_other)
    options: dict[str, Any] = {"max_new_tokens": 8, "seed": 5}
    for formula in (Formula.of(large), Formula("base + 0.5*arm", base=large, arm=small)):
        expected = [one.token_ids for one in Engine(formula).generate(PROMPTS, **options)]
        for draft in (small, {"draft": large, "tokens": 2}):
            engine = Engine(formula, speculate=draft)
            assert [one.token_ids for one in engine.generate(PROMPTS, **options)] == expected
            assert engine.stats.drafted
    engine.generate(PROMPTS, speculate={"draft": small}, **options)
