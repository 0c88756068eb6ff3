"""The memory of the pool: what it has room for, and what is given back."""

from typing import Any

import pytest

from arith.runtime.backbones.backbone import Backbone, LaneRequest, make_backbone
from tests.runtime.plain import Plain, check, check_step, load, prompt


@pytest.fixture(params=["tiny_llama", "tiny_mistral_sliding"])
def made(request: pytest.FixtureRequest) -> tuple[Backbone, Plain, Any]:
    path = request.getfixturevalue(request.param)
    model = load(path)
    return make_backbone(model, [], 270), Plain(path), model


def test_the_bytes_of_the_pool_are_those_of_its_slots(made: tuple[Backbone, Plain, Any]) -> None:
    backbone, _, model = made
    assert backbone.cache_bytes == 0
    lanes, _ = backbone.open([LaneRequest(None, prompt(20, seed)) for seed in range(3)])
    config = model.config
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * config.hidden_size // 4 * 4
    assert backbone.cache_bytes == 3 * 256 * each, "256 positions a slot at first"
    backbone.extend(lanes, [[1] * 240, [2], [3]])
    assert backbone.cache_bytes == 3 * 384 * each, "then half as many again"
    backbone.close(lanes[:2])
    backbone.trim()
    assert backbone.cache_bytes == 384 * each


def test_trimming_leaves_the_lanes_that_are_open_or_being_opened(
    made: tuple[Backbone, Plain, Any],
) -> None:
    backbone, plain, _ = made
    lanes, _ = backbone.open([LaneRequest(None, prompt(length)) for length in (50, 9, 30, 4)])
    opening = backbone.begin([LaneRequest(None, prompt(70))])
    opening.advance(40)
    backbone.close([lanes[0], lanes[3]])
    backbone.trim()
    check_step(backbone, plain, lanes[1:3], 0)
    assert opening.advance()
    check(opening.logits[0], plain(prompt(70)))
    backbone.trim()
    backbone.stats.reset()
    again, logits = backbone.open([LaneRequest(None, prompt(50))])
    assert backbone.stats.tokens_run == 50, "closed lanes are forgotten"
    check(logits[0], plain(prompt(50)))
    check_step(backbone, plain, [*again, *opening.lanes, lanes[2], lanes[1]], 1)
