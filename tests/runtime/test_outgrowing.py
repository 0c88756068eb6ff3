"""Longrope: a text is turned by other angles from its beginning once it is long, whatever is read at once."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arith import Engine, PlanError
from arith.runtime.backbones.backbone import Lane, LaneRequest, make_backbone
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.outgrowing import OutgrowingBackbone
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.conftest import save_lora, save_model, save_tokenizer
from tests.runtime.early_reference import EXITS, runner
from tests.runtime.plain import Plain, check, load, prompt
from tests.runtime.reference import raw
from tests.runtime.test_schedules import Schedule


@pytest.fixture(scope="session")
def tiny_longrope(models_folder: Path) -> str:
    """Phi-3 whose texts of more than 40 tokens are turned by other angles."""
    from transformers import Phi3Config

    folder = models_folder / "tiny_longrope"
    size = save_tokenizer(folder)
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
        "long_factor": [1.0, 2.0, 4.0, 8.0], "original_max_position_embeddings": 40,
    }  # fmt: skip
    config = Phi3Config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, original_max_position_embeddings=40,
        initializer_range=0.3, bos_token_id=256, eos_token_id=257, pad_token_id=261, rope_parameters=rope,
    )  # fmt: skip
    save_model(folder, config, seed=9)
    return str(folder)


def as_written(plain: Plain, tokens: Sequence[int], keep: int) -> Tensor:
    """The logits behind each of the last tokens when the text ended there."""
    ends = range(len(tokens) - keep + 1, len(tokens) + 1)
    return torch.cat([plain(tokens[:end]) for end in ends])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("recomputed", [False, True])
def test_any_schedule_gives_what_one_token_after_the_other_gives(
    tiny_longrope: str, seed: int, recomputed: bool
) -> None:
    plain, model, adapters = Plain(tiny_longrope), load(tiny_longrope), LaneAdapters()
    exits = EarlyExits(model, (), adapters, 270)
    backbone: Any = make_backbone(model, [], 270)
    assert isinstance(backbone, OutgrowingBackbone)
    assert backbone.slower is None and "runs texts of more than 40 tokens one at a time" in (
        backbone.note or ""
    )
    if recomputed:
        backbone = RecomputeBackbone(load(tiny_longrope), 270, adapters, exits, slower="asked for")

    def verify(lanes: list[Lane], logits: list[Tensor]) -> None:
        for lane, own in zip(lanes, logits, strict=True):
            check(own, as_written(plain, lane.tokens, len(own)))

    Schedule(backbone, random.Random(seed), verify).run(60)


@pytest.mark.parametrize("seed", range(2))
def test_adapters_and_early_exits_outgrow_with_their_lanes(
    tiny_longrope: str, tmp_path: Path, seed: int
) -> None:
    adapter = save_lora(tmp_path / "lora", tiny_longrope, seed=3, r=4, target_modules=["qkv_proj", "o_proj"])
    backbone = make_backbone(load(tiny_longrope), [adapter], 270, exits=EXITS)
    assert isinstance(backbone, OutgrowingBackbone)

    @torch.inference_mode()
    def verify(lanes: list[Lane], logits: list[Tensor]) -> None:
        early = backbone.early_logits(lanes, 1)
        for number, (lane, own) in enumerate(zip(lanes, logits, strict=True)):
            model = runner(tiny_longrope, lane.adapter)
            phi = model.base_model.model if lane.adapter else model
            for at in range(len(own)):
                text = lane.tokens[: len(lane.tokens) - len(own) + at + 1]
                plain = model(input_ids=torch.tensor([text]), output_hidden_states=True, use_cache=False)
                torch.testing.assert_close(own[at], plain.logits[0, -1], rtol=1e-4, atol=1e-3)
                expected = phi.lm_head(phi.model.norm(plain.hidden_states[1][0, -1]))
                torch.testing.assert_close(early[number][at], expected, rtol=1e-4, atol=1e-3)

    Schedule(backbone, random.Random(seed), verify, (None, adapter)).run(40)


def test_a_window_of_a_few_tokens_is_tried_with_as_few(tiny_longrope: str) -> None:
    model = load(tiny_longrope)
    model.config.rope_parameters["original_max_position_embeddings"] = 12
    assert isinstance(make_backbone(model, [], 270), OutgrowingBackbone)


def test_texts_within_the_window_share_their_forwards(tiny_longrope: str) -> None:
    backbone = make_backbone(load(tiny_longrope), [], 270)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (3, 38, 37)])
    before = backbone.stats.forwards
    for _ in range(2):
        backbone.step(lanes, [5, 6, 7])
    assert backbone.stats.forwards == before + 2
    backbone.step(lanes, [5, 6, 7])
    assert backbone.stats.forwards == before + 2 + 2, "one lane has left its slot"
    assert backbone.cache_bytes <= 3 * 41 * 2 * 2 * 2 * 8 * 4, "and no slot is longer than the window"
    backbone.reset()
    assert backbone.cache_bytes == 0


def test_lanes_are_as_they_were_when_memory_gives_out(tiny_longrope: str) -> None:
    """Also those that have read their tokens when the others fail."""
    plain = Plain(tiny_longrope)
    backbone = make_backbone(load(tiny_longrope), [], 270)
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (39, 60, 5)])
    texts = [list(lane.tokens) for lane in lanes]
    for kind in (SlotBackbone, RecomputeBackbone):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "extend", _failing)
            with pytest.raises(torch.OutOfMemoryError):
                backbone.extend(lanes, [[1, 2], [3], [4, 5]])
        assert [lane.tokens for lane in lanes] == texts
    for lane, own in zip(lanes, backbone.extend(lanes, [[1, 2], [3], [4, 5]]), strict=True):
        check(own, as_written(plain, lane.tokens, len(own)))
    with pytest.MonkeyPatch.context() as patch:
        opening = backbone.begin([LaneRequest(None, prompt(length)) for length in (50, 6)])
        patch.setattr("arith.runtime.backbones.opening.SlotOpening._run", _failing)
        with pytest.raises(torch.OutOfMemoryError):
            opening.advance()
        with pytest.raises(ValueError, match="aren't being opened"):
            opening.advance()
    again, logits = backbone.open([LaneRequest(None, prompt(length)) for length in (50, 6)])
    for lane, own in zip(again, logits, strict=True):
        check(own, plain(lane.tokens))


def _failing(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("the test's memory is full")


def test_drafts_and_scores_past_the_window_are_those_of_the_text(tiny_longrope: str) -> None:
    engine = Engine(raw(tiny_longrope))
    assert any("texts of more than 40 tokens" in note for note in engine.notes)
    options: dict[str, Any] = {"max_new_tokens": 60, "seed": 4, "num_return_sequences": 3}
    expected = engine.generate(["abc", "x" * 45], **options)
    drafting = {"draft": "operand1", "tokens": 4}
    found = engine.generate(["abc", "x" * 45], **options, speculate=drafting)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert engine.stats.drafted
    prompts, texts = [one.prompt for one in expected], [one.token_ids for one in expected]
    for one, score in zip(expected, engine.score(prompts, texts), strict=True):
        assert score.logprobs["formula"] == pytest.approx(one.logprobs["formula"], abs=1e-4)
    few = Engine(raw(tiny_longrope), max_rows=2).generate(["abc", "x" * 45], **options, forbid=["a"])
    alone = Engine(raw(tiny_longrope), max_rows=6).generate(["abc", "x" * 45], **options, forbid=["a"])
    assert [one.token_ids for one in few] == [one.token_ids for one in alone]


def test_a_text_without_keys_and_values_needs_no_room_for_them(
    tiny_longrope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(raw(tiny_longrope))
    options: dict[str, Any] = {"max_new_tokens": 2, "seed": 1}
    expected = engine.generate("x" * 100, **options)[0].token_ids
    monkeypatch.setattr("arith.runtime.runner.free_memory", lambda _device: 30 * 2 * 2 * 2 * 8 * 4)
    assert engine.generate("x" * 100, **options)[0].token_ids == expected
    with pytest.raises(PlanError, match="the keys and values of its prompt"):
        engine.generate("x" * 35, **options)
