"""Lanes opened, stepped, extended, cropped and closed in any order: always the logits of plain forwards."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from arith.runtime.backbones.backbone import Backbone, Lane, LaneRequest, Opening, make_backbone
from arith.runtime.backbones.early import EarlyExits
from arith.runtime.backbones.lora import LaneAdapters
from arith.runtime.backbones.recompute import RecomputeBackbone
from tests.runtime.early_reference import EXITS, check_early
from tests.runtime.plain import Plain, check, load, prompt

Verify = Callable[[list[Lane], list[Tensor]], None]


@dataclass
class Schedule:
    """Random actions on a backbone; after each one `verify` gets the lanes and the logits they have left."""

    backbone: Backbone
    chance: random.Random
    verify: Verify
    adapters: Sequence[str | None] = (None,)
    logits: dict[Lane, Tensor] = field(default_factory=dict)
    tokens: dict[Lane, list[int]] = field(default_factory=dict)
    openings: list[tuple[Opening, list[LaneRequest]]] = field(default_factory=list)

    def run(self, turns: int) -> None:
        actions = [self.open, self.begin, self.advance, self.advance, self.step, self.extend, self.crop]
        actions += [self.step, self.extend, self.crop, self.close, self.advance]
        for turn in range(turns):
            if turn % 15 == 14:
                self.chance.choice([self.cancel, self.backbone.trim])()
            else:
                self.chance.choice(actions)()
            assert [lane.tokens for lane in self.tokens] == list(self.tokens.values())
        while self.openings:
            self.advance()
        self.step(every=True)

    def requests(self) -> list[LaneRequest]:
        stems = [prompt(length) for length in (30, 45, 2)]
        lengths = self.chance.choices(range(1, 60), k=self.chance.randint(1, 4))
        return [
            LaneRequest(
                self.chance.choice(list(self.adapters)),
                (*self.chance.choice(stems), *prompt(length)),
                self.chance.randint(1, 3),
            )
            for length in lengths
        ]

    def some(self) -> list[Lane]:
        return self.chance.sample(list(self.tokens), self.chance.randint(1, len(self.tokens)))

    def open(self) -> None:
        requests = self.requests()
        self.opened(*self.backbone.open(requests), requests)

    def begin(self) -> None:
        requests = self.requests()
        self.openings.append((self.backbone.begin(requests), requests))

    def advance(self) -> None:
        if not self.openings:
            return
        opening, requests = self.chance.choice(self.openings)
        if opening.advance(self.chance.choice([5, 40, 100])):
            self.openings.remove((opening, requests))
            self.opened(opening.lanes, opening.logits, requests)

    def cancel(self) -> None:
        if self.openings:
            self.openings.pop()[0].cancel()

    def opened(self, lanes: list[Lane], logits: list[Tensor], requests: list[LaneRequest]) -> None:
        for lane, request in zip(lanes, requests, strict=True):
            self.tokens[lane] = list(request.tokens)
        assert [len(own) for own in logits] == [request.keep for request in requests]
        self.gave(lanes, logits)

    def step(self, every: bool = False) -> None:
        if self.tokens:
            lanes = list(self.tokens) if every else self.some()
            new = self.chance.choices(range(256), k=len(lanes))
            self.added(lanes, [[token] for token in new])
            self.gave(lanes, list(self.backbone.step(lanes, new)[:, None]))

    def extend(self) -> None:
        if self.tokens:
            lanes = self.some()
            new = [self.chance.choices(range(256), k=self.chance.randint(1, 6)) for _ in lanes]
            keep = [self.chance.randint(1, len(own)) for own in new] if self.chance.random() < 0.5 else None
            self.added(lanes, new)
            logits = self.backbone.extend(lanes, new, keep)
            assert [len(own) for own in logits] == (keep or [len(own) for own in new])
            self.gave(lanes, logits)

    def crop(self) -> None:
        if self.tokens:
            lanes = self.some()
            lengths = [max(1, len(self.tokens[lane]) - self.chance.randint(0, 8)) for lane in lanes]
            self.backbone.crop(lanes, lengths)
            for lane, length in zip(lanes, lengths, strict=True):
                dropped = len(self.tokens[lane]) - length
                del self.tokens[lane][length:]
                self.logits[lane] = self.logits[lane][: max(0, len(self.logits[lane]) - dropped)]
            self.gave(lanes, [self.logits[lane] for lane in lanes])

    def close(self) -> None:
        if self.tokens:
            lanes = self.some()
            self.backbone.close(lanes)
            for lane in lanes:
                del self.tokens[lane], self.logits[lane]

    def added(self, lanes: list[Lane], new: list[list[int]]) -> None:
        for lane, own in zip(lanes, new, strict=True):
            self.tokens[lane].extend(own)

    def gave(self, lanes: list[Lane], logits: list[Tensor]) -> None:
        self.logits.update(zip(lanes, logits, strict=True))
        with_logits = [lane for lane in self.logits if len(self.logits[lane])]
        if with_logits:
            self.verify(with_logits, [self.logits[lane] for lane in with_logits])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_mistral_sliding", "tiny_mamba"])
def test_any_schedule_gives_plain_logits(model: str, seed: int, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    plain = Plain(path)

    def verify(lanes: list[Lane], logits: list[Tensor]) -> None:
        for lane, own in zip(lanes, logits, strict=True):
            check(own, plain(lane.tokens, len(own)))

    Schedule(make_backbone(load(path), [], 270), random.Random(seed), verify).run(45)


@pytest.mark.parametrize("seed", range(4))
def test_any_schedule_of_mixed_adapters_gives_plain_logits_and_early_exits(
    tiny_llama: str, lora_a: str, lora_b: str, seed: int
) -> None:
    backbone = make_backbone(load(tiny_llama), [lora_a, lora_b], 270, exits=EXITS)

    def verify(lanes: list[Lane], logits: list[Tensor]) -> None:
        check_early(backbone, tiny_llama, lanes, logits)

    Schedule(backbone, random.Random(seed), verify, (None, lora_a, lora_b)).run(45)


def test_any_schedule_of_recomputed_lanes_gives_plain_logits_and_early_exits(tiny_llama: str) -> None:
    model, adapters = load(tiny_llama), LaneAdapters()
    exits = EarlyExits(model, EXITS, adapters, 270)
    backbone = RecomputeBackbone(model, 270, adapters, exits, slower="asked for")

    def verify(lanes: list[Lane], logits: list[Tensor]) -> None:
        check_early(backbone, tiny_llama, lanes, logits)

    Schedule(backbone, random.Random(5), verify).run(45)
